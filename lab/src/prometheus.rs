//! A real Prometheus that scrapes every second, so that an incident fits into a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files;
use crate::http;
use crate::packages::{PROMETHEUS, Programs};
use crate::process::Process;
use crate::session::Session;

const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Prometheus hands new targets to its scrapers every five seconds, and those look every five seconds.
const TARGET_LIMIT: Duration = Duration::from_secs(30);

/// How Prometheus is started.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    /// How often each target is scraped; a scrape may take nine tenths of it.
    pub scrape_interval: Duration,
    /// What is scraped from the start. Later ones are seen within five seconds or so, these with the first look.
    pub targets: Vec<Target>,
    /// Further arguments.
    pub args: Vec<String>,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self { scrape_interval: Duration::from_secs(1), targets: Vec::new(), args: Vec::new() }
    }
}

/// Something that is scraped at `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The value of the label `job`.
    pub job: String,
    /// Host and port; also the value of the label `instance`.
    pub address: String,
    /// Further labels for all its series, such as `namespace` and `pod`.
    pub labels: BTreeMap<String, String>,
}

impl Target {
    /// Describes a target.
    pub fn new(job: &str, address: &str, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { job: job.to_owned(), address: address.to_owned(), labels }
    }

    fn group(&self) -> Value {
        let mut labels = self.labels.clone();
        labels.insert("job".to_owned(), self.job.clone());
        json!({"targets": [self.address], "labels": labels})
    }
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels; empty for a scalar.
    pub labels: BTreeMap<String, String>,
    /// Its value, which may be NaN or infinite.
    pub value: f64,
}

/// A running (or stopped) Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    session: Session,
    programs: Programs,
    args: Vec<String>,
    folder: PathBuf,
    port: u16,
    url: String,
    targets: Mutex<Vec<Target>>,
    process: Process,
}

impl Prometheus {
    /// Starts it and waits until it answers.
    pub async fn start(session: &Session, options: PrometheusOptions) -> Result<Self> {
        let programs = Programs::find(session, &PROMETHEUS).await?;
        let (name, folder) = session.new_folder("prometheus", None)?;
        let port = session.free_port()?;
        let address = format!("127.0.0.1:{port}");
        write_targets(&folder, &options.targets)?;
        let config = folder.join("prometheus.yml");
        files::replace(&config, config_text(&folder, options.scrape_interval).to_string().as_bytes())?;
        let mut args = vec![
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            "--storage.tsdb.retention.time=2h".to_owned(),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        args.extend(options.args);
        let process = launch(session, &programs, &args, name, &folder).await?;
        let server = Self {
            session: session.clone(),
            programs,
            args,
            folder,
            port,
            url: format!("http://{address}"),
            targets: Mutex::new(options.targets),
            process,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port of [`Prometheus::url`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Scrapes one more target from now on. [`Prometheus::seen`] waits for its first scrape.
    pub fn add_target(&self, job: &str, address: &str, labels: &[(&str, &str)]) -> Result<()> {
        self.change_targets(|targets| targets.push(Target::new(job, address, labels)))
    }

    /// Scrapes a target no more.
    pub fn remove_target(&self, address: &str) -> Result<()> {
        self.change_targets(|targets| targets.retain(|target| target.address != address))
    }

    /// Replaces all targets at once.
    pub fn set_targets(&self, new: Vec<Target>) -> Result<()> {
        self.change_targets(|targets| *targets = new)
    }

    /// Waits until a target has been scraped with success.
    pub async fn seen(&self, address: &str) -> Result<()> {
        let query = format!("up{{instance=\"{address}\"}} == 1");
        let look = || async { self.query(&query).await.ok().filter(|found| !found.is_empty()) };
        self.process.ready(&format!("has scraped {address}"), TARGET_LIMIT, look).await.map(drop)
    }

    /// Evaluates an expression now. A scalar is one sample without labels.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let doing = format!("asking Prometheus for {expression}");
        let url = format!("{}/api/v1/query", self.url);
        let request = http::client(&self.process)?.get(url).query(&[("query", expression)]);
        let failed = || Error::request(doing.clone(), self.log());
        // A refused expression is explained in the body.
        let answer: Answer = request.send().await.map_err(failed())?.json().await.map_err(failed())?;
        answer.samples().map_err(Error::request(doing, self.log()))
    }

    /// Stops it; what it has scraped stays for [`Prometheus::start_again`].
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.process.stop(Signal::TERM, STOP_LIMIT).await
    }

    /// Starts the stopped server on its old port, with its data and its targets of now.
    pub async fn start_again(&mut self) -> Result<()> {
        let name = self.process.name().to_owned();
        self.process = launch(&self.session, &self.programs, &self.args, name, &self.folder).await?;
        self.wait_until_ready().await
    }

    /// Lets requests hang: the connection is accepted, nothing is answered.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Goes on after [`Prometheus::pause`]; what was not scraped meanwhile is missing.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    fn change_targets(&self, change: impl FnOnce(&mut Vec<Target>)) -> Result<()> {
        // Nothing that is done under the lock can panic and leave the list half changed.
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut targets);
        write_targets(&self.folder, &targets)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let url = format!("{}/-/ready", self.url);
        let look = || async { http::get(&self.process, &url).await.ok() };
        self.process.ready("answers on /-/ready", READY_LIMIT, look).await.map(drop)
    }
}

async fn launch(
    session: &Session,
    programs: &Programs,
    args: &[String],
    name: String,
    folder: &Path,
) -> Result<Process> {
    session.spawn_in(programs.spec("prometheus", "prometheus").args(args), name, folder).await
}

fn write_targets(folder: &Path, targets: &[Target]) -> Result<()> {
    let groups: Vec<Value> = targets.iter().map(Target::group).collect();
    files::replace(&folder.join("targets.json"), Value::from(groups).to_string().as_bytes())
}

/// JSON is YAML.
fn config_text(folder: &Path, interval: Duration) -> Value {
    let millis = interval.as_millis();
    json!({
        "global": {
            "scrape_interval": format!("{millis}ms"),
            // May not exceed the interval; a little less, so that a slow target does not cost the next scrape.
            "scrape_timeout": format!("{}ms", millis * 9 / 10),
            "evaluation_interval": format!("{millis}ms"),
        },
        "scrape_configs": [{
            // The targets bring their own `job`.
            "job_name": "lab",
            // Changes are noticed at once; this is for file systems that do not tell.
            "file_sd_configs": [{"files": [folder.join("targets.json")], "refresh_interval": "1s"}],
        }],
    })
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", tag = "resultType", content = "result")]
enum Data {
    Vector(Vec<Series>),
    Scalar((f64, String)),
    Matrix(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Answer {
    fn samples(self) -> Result<Vec<Sample>, String> {
        let number = |text: &str| text.parse::<f64>().map_err(|_| format!("{text:?} is no number"));
        match self.data {
            Some(Data::Vector(series)) => series
                .into_iter()
                .map(|series| Ok(Sample { value: number(&series.value.1)?, labels: series.metric }))
                .collect(),
            Some(Data::Scalar((_, text))) => {
                Ok(vec![Sample { labels: BTreeMap::new(), value: number(&text)? }])
            }
            Some(Data::Matrix(_) | Data::String(_)) => {
                Err("the answer is neither an instant vector nor a scalar".to_owned())
            }
            None => Err(self.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_odd_numbers_is_read() {
        let text = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"view":"a"},"value":[1.5,"NaN"]},{"metric":{},"value":[1.5,"+Inf"]}]}}"#;
        let samples = serde_json::from_str::<Answer>(text).unwrap().samples().unwrap();
        assert!(samples[0].value.is_nan() && samples[0].labels["view"] == "a");
        assert!(samples[1].value.is_infinite());
        let text = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert_eq!(serde_json::from_str::<Answer>(text).unwrap().samples(), Err("parse error".to_owned()));
    }
}
