//! Sends requests to the target, one at a time, through its Service.

use std::time::Duration;

use engine::effects::Requests;
use engine::model::{TargetRef, elapsed};
use jiff::Timestamp;
use kube::Client;

use crate::clock::Clock;
use crate::connections::Services;
use crate::connections::http::{self, Get, UrlPath};
use crate::connections::secrets::brief;
use crate::connections::services::Endpoint;
use crate::connections::workload;

/// Nobody waits longer for one answer: what is asked for is what the cache has not got, so it takes its time.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The addresses are looked for anew after so long: Pods come and go while it runs.
const TRUSTED: Duration = Duration::from_secs(5);

/// Whom a run asks. Only Pods of the target are.
#[derive(Clone)]
pub struct Asker {
    /// Reads.
    pub client: Client,
    /// From the Service to addresses that may be asked.
    pub services: Services,
    /// The clock that the fence is on.
    pub clock: Clock,
    /// Where the Service and the target are.
    pub namespace: String,
    /// The workload whose Pods are asked.
    pub target: TargetRef,
    /// Which Service, and how.
    pub requests: Requests,
}

impl Asker {
    /// Asks for one path, at the next address of the Service; `number` counts the requests. Nothing is sent at or after the
    /// fence, and no answer is waited for beyond it. `may` is asked last.
    ///
    /// # Errors
    /// There was no answer, or none that says success; in a few words.
    pub async fn ask(
        &self,
        path: &str,
        number: usize,
        fence: Timestamp,
        may: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), String> {
        let path = UrlPath::parse(path)?;
        let left = || elapsed(fence, self.clock.now());
        let found = tokio::time::timeout(left(), self.endpoints()).await;
        let endpoints = found.map_err(|_| "there was no time left".to_owned())??;
        let place = number.checked_rem(endpoints.len()).unwrap_or_default();
        let endpoint = endpoints.get(place).ok_or_else(|| "the Service has no address".to_owned())?;
        let request = Get {
            address: endpoint.address,
            scheme: self.requests.scheme,
            host: http::host(&self.requests.service, &self.namespace),
            path,
        };
        let timeout = left().min(ANSWER_WITHIN);
        if timeout.is_zero() || !may() {
            return Err("there was no time left".to_owned());
        }
        match http::get(&request, timeout).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) if (300..400).contains(&answer.status) => {
                Err(format!("it answered {}, and no redirect is followed", answer.status))
            }
            Ok(answer) => Err(format!("it answered {}", answer.status)),
            Err(failure) => {
                self.services.doubt(&self.namespace, &self.requests.service);
                Err(failure.to_string())
            }
        }
    }

    async fn endpoints(&self) -> Result<Vec<Endpoint>, String> {
        let read = workload::read(&self.client, &self.namespace, &self.target).await;
        let selector = read.map_err(|error| format!("{}: {}", self.target, brief(&error)))?.selector;
        let Requests { service, port, .. } = &self.requests;
        let found = self.services.endpoints(&self.namespace, service, port, Some(&selector), TRUSTED).await;
        found.map_err(|no_data| no_data.to_string())
    }
}
