//! `latency-operator drain`: before the operator is uninstalled, what it owes is taken back.
//!
//! The Lease is marked. Whoever leads sees that when it renews, begins nothing more and takes back; where nobody leads this
//! process does, with the same code. Everything that is decided is decided by the engine, and what is written is what a leader
//! writes: killed at any moment, or started twice, it leaves nothing but a mark that is over after a while.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use controller::ports::Leading;
use engine::model::{Draining, EntryKey, Phase, Remediation, UndoState, duration, elapsed, later};
use jiff::Timestamp;
use tokio::sync::watch;

use super::process::{self, Clients, Logging, Reporting};
use crate::clock::Clock;
use crate::config::Config;
use crate::connections::secrets::brief;
use crate::kube::leader::{Elector, LONGEST, Sight};
use crate::kube::list_remediations;
use crate::scope::Scope;
use crate::telemetry::{Health, Metrics};

/// What was sent just before the leader knew of the mark is there after so long: as long as an answer is waited for.
const QUIET: Duration = Duration::from_secs(6);
/// Once its time is over, whoever leads gives up what is left; that is waited for.
const GIVING_UP: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look without an answer for so long has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The operator's configuration: its Lease and its namespaces, and where objectives are read.
    #[arg(long, env = "LATENCY_OPERATOR_CONFIG")]
    config: Option<PathBuf>,
    /// What cannot be taken back in this time stays, and the command that takes it back is told. At most 1h.
    #[arg(long, default_value = "2m", value_parser = within)]
    within: Duration,
    #[command(flatten)]
    logging: Logging,
}

fn within(text: &str) -> Result<Duration, String> {
    let span = duration::parse(text).map_err(|error| error.to_string())?;
    if span < Duration::from_secs(1) || span > LONGEST {
        return Err(format!("it must be between 1s and {}, for example 2m", duration::format(LONGEST)));
    }
    Ok(span)
}

pub(super) fn drain(args: Args) -> anyhow::Result<()> {
    let config = Config::read(args.config.as_deref())?;
    process::start(&args.logging, operate(args.within, config))
}

async fn operate(within: Duration, config: Config) -> anyhow::Result<()> {
    let clients = process::clients(Vec::new()).await?;
    let (stop, stopping) = watch::channel(false);
    let (signalled, mut signal) = watch::channel(false);
    tokio::spawn(process::wait_for_signal(signalled));
    let drain = Drain::begin(within, config, clients).await?;

    let mut leading = pin!(drain.lead_where_nobody_does(stopping));
    let ended = tokio::select! {
        ended = drain.wait() => ended,
        led = &mut leading => Err(led.err().unwrap_or_else(|| anyhow::anyhow!("it has stopped leading"))),
        _ = signal.wait_for(|signal| *signal) => {
            Err(anyhow::anyhow!("stopped before it was over; nothing is begun until the mark on the Lease is over"))
        }
    };
    if ended.is_ok() {
        drain.over.store(true, Ordering::Relaxed);
        if !drain.leads.load(Ordering::Relaxed) {
            drain.remove_lease().await;
        }
    }
    let _ = stop.send(true);
    // What is under way is finished, and the Lease deleted, if this process holds it.
    let _ = leading.await;
    ended
}

struct Drain {
    clients: Clients,
    config: Config,
    elector: Elector,
    /// The Lease, as people name it.
    lease: String,
    scopes: Vec<Scope>,
    clock: Clock,
    until: Timestamp,
    /// When it began: whatever another mark says, it waits no longer than anybody drains.
    begun: Instant,
    /// The Lease has been marked.
    marked: watch::Sender<bool>,
    /// Everything is settled: a Lease that this process holds need not stay.
    over: AtomicBool,
    /// This process holds the Lease.
    leads: AtomicBool,
}

impl Drain {
    async fn begin(within: Duration, config: Config, clients: Clients) -> anyhow::Result<Self> {
        let clock = Clock::agreed(&clients.reading).await?;
        let identity = format!("drain-{}", process::identity());
        let namespace = config.lease.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| clients.reading.default_namespace().to_owned());
        let health = Health::default();
        let elector = Elector::new(clients.electing(), &namespace, config.lease.clone(), &identity, health)
            .after_others();
        Ok(Self {
            lease: format!("{namespace}/{}", config.lease.name),
            scopes: Scope::all(&config.watch_namespaces),
            until: later(clock.now(), within),
            begun: Instant::now(),
            marked: watch::Sender::new(false),
            over: AtomicBool::new(false),
            leads: AtomicBool::new(false),
            clients,
            config,
            elector,
            clock,
        })
    }

    /// Takes the Lease where nobody holds it (any more), and does what a leader does, until it is stopped.
    async fn lead_where_nobody_does(&self, stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut stopped = stopping.clone();
        loop {
            let marked_and_free = async {
                let _ = self.marked.subscribe().wait_for(|marked| *marked).await;
                self.elector.acquire().await
            };
            let leadership = tokio::select! {
                leadership = marked_and_free => leadership,
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            };
            if leadership.draining().is_none() {
                // Somebody has taken the mark away: it is put there again first.
                self.elector.give_back(&leadership).await;
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            say(&format!("nobody leads: this process has taken the Lease {} and does it", self.lease));
            self.leads.store(true, Ordering::Relaxed);
            let (config, clients) = (self.config.clone(), self.clients.clone());
            let (metrics, health) = (Metrics::new(false), Health::default());
            let reporting = Reporting { metrics, health, recorder: None };
            let work = process::work(config, clients, leadership.clone(), reporting, stopping.clone());
            tokio::select! {
                lost = self.elector.keep(&leadership) => {
                    self.leads.store(false, Ordering::Relaxed);
                    say(&format!("the Lease was lost: {lost}"));
                }
                worked = process::finish(work, stopping.clone()) => {
                    if self.over.load(Ordering::Relaxed) {
                        self.elector.release(&leadership).await;
                    } else {
                        self.elector.give_back(&leadership).await;
                    }
                    return worked;
                }
            }
        }
    }

    /// Waits until nothing is owed, or its time is over.
    async fn wait(&self) -> anyhow::Result<()> {
        let mut waiting = Waiting::default();
        loop {
            let turn = tokio::time::timeout(ANSWER_WITHIN, self.turn(&mut waiting)).await;
            let trouble = match turn {
                Ok(Ok(None)) => None,
                Ok(Ok(Some(all))) => return tell_end(&waiting, &all),
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
                    bail!("the API server refuses: {}", status.message)
                }
                Ok(Err(error)) => Some(brief(&error)),
                Err(_) => Some("the API server has not answered in time".to_owned()),
            };
            let late = elapsed(self.clock.now(), waiting.limit.unwrap_or(self.until).max(self.until));
            if late >= GIVING_UP || self.begun.elapsed() >= LONGEST + GIVING_UP {
                return tell_limit(&waiting, trouble);
            }
            if let Some(trouble) = trouble {
                waiting.say(&format!("tries again: {trouble}"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// One look. All remediations, once nothing is owed.
    async fn turn(&self, waiting: &mut Waiting) -> kube::Result<Option<Vec<Remediation>>> {
        let Some(lease) = self.marked(waiting).await? else { return Ok(None) };
        let all = list_remediations(&self.clients.reading, &self.scopes).await?;
        waiting.unsettled = all.iter().filter(|one| is_unsettled(one)).cloned().collect();
        waiting.owed.extend(all.iter().filter(|one| one.owes()).map(key_of));
        let is_heard = waiting.heard.is_some_and(|at| at.elapsed() >= QUIET);
        if is_heard && waiting.unsettled.is_empty() {
            return Ok(Some(all));
        }
        waiting.say(&waiting_for(waiting, &lease));
        Ok(None)
    }

    /// Sees to it that the Lease is marked, and notes who has heard of it.
    async fn marked(&self, waiting: &mut Waiting) -> kube::Result<Option<Sight>> {
        let found = self.elector.look().await?;
        let marked_until = found.as_ref().and_then(|lease| lease.marked_until);
        let stands = marked_until.is_some_and(|until| until >= self.until);
        let lease = match (found, &waiting.marked) {
            (Some(lease), Some(_)) if stands => lease,
            // It is the first time, or whoever knew nothing of it has written the Lease, or another drain has ended.
            _ => {
                let Some(lease) = self.elector.mark(self.until).await? else { return Ok(None) };
                if waiting.marked.is_none() {
                    say(&format!(
                        "the Lease {} is marked until {}: nothing is begun any more, and what is owed is taken back",
                        self.lease,
                        lease.marked_until.unwrap_or(self.until)
                    ));
                }
                self.marked.send_replace(true);
                waiting.heard = None;
                waiting.marked.insert(lease).clone()
            }
        };
        // Another drain may have more time: what it waits for is not over.
        waiting.limit = lease.marked_until;
        if waiting.marked.as_ref().is_some_and(|marked| lease.is_heard_since(marked)) {
            waiting.heard.get_or_insert_with(Instant::now);
        }
        Ok(Some(lease))
    }

    /// It is over. Whoever led waits to be ended; a Lease that this process holds it deletes itself when it ends.
    async fn remove_lease(&self) {
        let removed = async {
            loop {
                match self.elector.remove().await {
                    Ok(true) => return Ok(()),
                    Ok(false) => tokio::time::sleep(Duration::from_millis(100)).await,
                    Err(error) => return Err(brief(&error)),
                }
            }
        };
        let removed = tokio::time::timeout(ANSWER_WITHIN, removed).await;
        if let Some(trouble) = removed.map_or_else(|late| Some(late.to_string()), Result::err) {
            let lingers = duration::format(Draining::LINGERS);
            tracing::warn!(
                trouble,
                "the Lease could not be deleted; its mark is over {lingers} after its time"
            );
        }
    }
}

/// What is known so far.
#[derive(Default)]
struct Waiting {
    /// The Lease as it was marked.
    marked: Option<Sight>,
    /// The end that the mark on the Lease names.
    limit: Option<Timestamp>,
    /// Since when somebody leads who has seen the mark.
    heard: Option<Instant>,
    /// What was seen to be owed at some time.
    owed: BTreeSet<EntryKey>,
    unsettled: Vec<Remediation>,
    said: String,
}

impl Waiting {
    /// Says it, unless it was the last thing said.
    fn say(&mut self, what: &str) {
        if self.said != what {
            say(what);
            what.clone_into(&mut self.said);
        }
    }
}

fn key_of(one: &Remediation) -> EntryKey {
    (one.namespace.clone(), one.name.clone())
}

/// Whether somebody has yet to do something about it. A verdict that is merely waited for is none of that.
fn is_unsettled(one: &Remediation) -> bool {
    let begun = match one.status.phase {
        Phase::AwaitingApproval | Phase::Admitted | Phase::Executing => !one.spec.is_dry_run(),
        Phase::Verifying
        | Phase::Denied
        | Phase::Expired
        | Phase::Completed
        | Phase::Refused
        | Phase::Failed
        | Phase::DryRun
        | Phase::OutcomeUnknown => false,
    };
    begun || one.held || one.owes()
}

fn waiting_for(waiting: &Waiting, lease: &Sight) -> String {
    let mut what: Vec<String> = waiting.unsettled.iter().map(standing).collect();
    if waiting.heard.is_none() {
        what.insert(
            0,
            match &lease.holder {
                Some(holder) => format!("until {holder} has seen the mark, or its Lease has run out"),
                None => "until somebody leads".to_owned(),
            },
        );
    }
    if what.is_empty() {
        "waits for what may be under way".to_owned()
    } else {
        format!("waits: {}", what.join("; "))
    }
}

/// How one stands, for people.
fn standing(one: &Remediation) -> String {
    let name = format!("{}/{}", one.namespace, one.name);
    match (&one.status.undo, one.status.phase) {
        (Some(undo), _) if undo.state == UndoState::Pending => {
            format!("{name} owes its undo, {} has {}", one.spec.target, undo.change)
        }
        (_, Phase::Admitted) if !one.spec.is_dry_run() => {
            format!("{name} was admitted and is about to be refused")
        }
        (_, Phase::Executing) => format!("{name} is being carried out"),
        (
            _,
            Phase::AwaitingApproval
            | Phase::Admitted
            | Phase::Verifying
            | Phase::Denied
            | Phase::Expired
            | Phase::Completed
            | Phase::Refused
            | Phase::Failed
            | Phase::DryRun
            | Phase::OutcomeUnknown,
        ) => format!("{name} has yet to be let go"),
    }
}

/// Nothing is owed any more. What was, and how that ended.
fn tell_end(waiting: &Waiting, all: &[Remediation]) -> anyhow::Result<()> {
    for one in all.iter().filter(|one| waiting.owed.contains(&key_of(one))) {
        let name = format!("{}/{}", one.namespace, one.name);
        let state = one.status.undo.as_ref().map(|undo| undo.state);
        match (state, one.by_hand()) {
            (Some(UndoState::Abandoned), Some(command)) => {
                say(&format!(
                    "{name} could not be taken back in time and stays; to do it by hand: {command}"
                ));
            }
            (Some(UndoState::Contested), _) => {
                say(&format!("{name} is left as it is: somebody else has changed it since"));
            }
            _ => say(&format!("{name} has been taken back")),
        }
    }
    say("nothing is owed any more");
    Ok(())
}

/// The time is over, and not everything is settled.
fn tell_limit(waiting: &Waiting, trouble: Option<String>) -> anyhow::Result<()> {
    if let Some(trouble) = trouble {
        return Err(anyhow::anyhow!(trouble)).context("what is owed could not be seen to the end");
    }
    let owed: Vec<&Remediation> = waiting.unsettled.iter().filter(|one| one.held || one.owes()).collect();
    for one in &waiting.unsettled {
        let by_hand = one.by_hand().filter(|_| one.owes());
        let by_hand = by_hand.map(|command| format!("; to take it back by hand: {command}"));
        say(&format!("left: {}{}", standing(one), by_hand.unwrap_or_default()));
    }
    if waiting.heard.is_none() {
        bail!(
            "nobody has taken notice of the mark on the Lease: there is no leader, and this process could not lead"
        );
    }
    if !owed.is_empty() {
        bail!("{} of what is owed was neither taken back nor given up in time", owed.len());
    }
    Ok(())
}

/// One sentence on standard output. Nobody may be listening.
fn say(what: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_checked() {
        assert_eq!(within("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(within("1h"), Ok(LONGEST));
        for wrong in ["", "2", "500ms", "61m", "999999999h", "-1s"] {
            assert!(within(wrong).is_err(), "{wrong}");
        }
    }
}
