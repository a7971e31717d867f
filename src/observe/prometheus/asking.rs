//! Asking for several readings at once, and what follows when that fails.

use std::collections::{BTreeMap, BTreeSet};

use engine::model::{NoData, NoDataReason, Observed, Traffic};
use futures::StreamExt;
use jiff::Timestamp;

use super::together::{AT_ONCE, Company, Joined, MOST, Member, Shape, may_be_one_of_them};
use super::{Connected, Prometheus, answer, presets, query};

type Waiting = (Member, tokio::sync::oneshot::Sender<Observed<Traffic>>);
type Found = BTreeMap<Member, Result<Traffic, NoData>>;

impl Prometheus {
    /// The reading of one target, asked for together with the others of its shape that are due now.
    pub(super) async fn in_company(&self, shape: Shape, member: Member) -> Observed<Traffic> {
        let company = self.together.company(&shape, &member);
        if company == Company::Alone {
            return self.alone(&shape, &member).await;
        }
        let Joined { found, first } = self.together.join(&shape, company, member);
        if first {
            let this = self.clone();
            // Of its own: whoever came first may be stopped, and the others wait for it.
            tokio::spawn(async move { this.gather(&shape, company).await });
        }
        found.await.unwrap_or_else(|_| {
            Observed::missing(NoDataReason::BadAnswer, "the task that read it was stopped")
        })
    }

    async fn gather(&self, shape: &Shape, company: Company) {
        let mut rest = self.together.gathered(shape, company).await;
        let mut asked = Vec::new();
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(MOST));
            asked.push(self.answer(shape, company, rest));
            rest = later;
        }
        futures::future::join_all(asked).await;
    }

    /// Answers those who wait.
    async fn answer(&self, shape: &Shape, company: Company, waiting: Vec<Waiting>) {
        if company == Company::Alone || waiting.len() == 1 {
            let alone = waiting.into_iter().map(|(member, answer)| async move {
                // Who does not wait any more needs no answer.
                let _ = answer.send(self.alone(shape, &member).await);
            });
            return futures::stream::iter(alone).buffer_unordered(AT_ONCE).collect().await;
        }
        let members: Vec<&Member> = waiting.iter().map(|(member, _)| member).collect();
        let (now, found) = self.several(shape, company, &members).await;
        let no_data = match found {
            Ok(mut found) => {
                if company == Company::Namespace {
                    self.together.part(shape, company, among_strangers(&members, &found));
                }
                for (member, answer) in waiting {
                    let _ = answer.send(match found.remove(&member) {
                        Some(Ok(value)) => Observed::Known { at: now, value },
                        Some(Err(no_data)) => Observed::Missing(no_data),
                        None => Observed::Missing(self.nothing(shape)),
                    });
                }
                return;
            }
            Err(no_data) => no_data,
        };
        if may_be_one_of_them(&no_data) {
            tracing::debug!(
                reason = %no_data.reason, detail = no_data.detail, ?company, members = members.len(),
                "a query for several targets failed; they are asked for in smaller company"
            );
            // Whoever has waited that long in vain looks again when it is due. Where many have, it is the backend that is slow,
            // and a query for each would make it slower still.
            let slow = no_data.reason == NoDataReason::Timeout;
            if !slow || self.together.few_are_apart() {
                self.together.part(shape, company, members);
            }
            if !slow {
                return Box::pin(self.answer(shape, company.smaller(), waiting)).await;
            }
        }
        for (_, answer) in waiting {
            let _ = answer.send(Observed::Missing(no_data.clone()));
        }
    }

    async fn alone(&self, shape: &Shape, member: &Member) -> Observed<Traffic> {
        let Shape { preset, window, match_labels, .. } = shape;
        let asked = async {
            let backend = self.connected(&shape.backend)?;
            let metrics = presets::metrics(*preset);
            let injected = presets::of_pods(&backend.config, shape.kind, &member.namespace, &member.target);
            let query = query::reading(metrics, &injected, match_labels, *window);
            let (now, body) = self.ask(backend, &query).await;
            let value = answer::traffic(&body?, &backend.config, *window, now)?;
            Ok(Observed::Known { at: now, value })
        };
        asked.await.unwrap_or_else(Observed::Missing)
    }

    async fn several(
        &self,
        shape: &Shape,
        company: Company,
        members: &[&Member],
    ) -> (Timestamp, Result<Found, NoData>) {
        let backend = match self.connected(&shape.backend) {
            Ok(backend) => backend,
            Err(no_data) => return (self.clock.now(), Err(no_data)),
        };
        // It is never closed.
        let _place = self.together.under_way.acquire().await;
        let query = together(shape, company, members, backend);
        let (now, body) = self.ask(backend, &query).await;
        let found = body.and_then(|body| answer::several(&body, &backend.config, shape.window, now));
        (now, found)
    }

    fn nothing(&self, shape: &Shape) -> NoData {
        match self.connected(&shape.backend) {
            Ok(backend) => answer::missing("the latency histogram", &backend.config),
            Err(no_data) => no_data,
        }
    }
}

/// The query for several targets.
pub(super) fn together(shape: &Shape, company: Company, members: &[&Member], backend: &Connected) -> String {
    let namespaces: BTreeSet<&str> = members.iter().map(|member| &*member.namespace).collect();
    let targets: BTreeSet<&str> = members.iter().map(|member| &*member.target).collect();
    let targets = (company == Company::Named).then_some(&targets);
    let injected = presets::of_all_pods(&backend.config, shape.kind, &namespaces, targets);
    let by = presets::by_target(&backend.config, shape.kind);
    query::together(presets::metrics(shape.preset), &injected, &by, &shape.match_labels, shape.window)
}

/// Those in whose namespace far more was answered for than was asked for, where that is worth the trouble: a few strangers cost
/// less than a query more.
fn among_strangers<'a>(members: &[&'a Member], found: &Found) -> Vec<&'a Member> {
    if found.len() <= members.len() + 2 * MOST {
        return Vec::new();
    }
    let count = |namespace: &str| found.keys().filter(|one| one.namespace == namespace).count();
    let mut crowded: BTreeMap<&str, bool> = BTreeMap::new();
    for member in members {
        let own = || members.iter().filter(|other| other.namespace == member.namespace).count();
        crowded.entry(&member.namespace).or_insert_with(|| count(&member.namespace) > 2 * own());
    }
    members.iter().copied().filter(|member| crowded.get(&*member.namespace) == Some(&true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_among_many_strangers_is_told_apart_from_those_at_home() {
        let member =
            |namespace: &str, target: &str| Member { namespace: namespace.into(), target: target.into() };
        let (home, lost) = (member("home", "a"), member("crowd", "a"));
        let nothing = || Err(NoData::new(NoDataReason::Empty, ""));
        let found = |strangers: usize| {
            let mut found = Found::from([(home.clone(), nothing()), (member("home", "b"), nothing())]);
            found.insert(lost.clone(), nothing());
            found.extend((0..strangers).map(|one| (member("crowd", &format!("web-{one}")), nothing())));
            found
        };
        assert_eq!(among_strangers(&[&home, &lost], &found(10)), Vec::<&Member>::new(), "not worth it");
        assert_eq!(among_strangers(&[&home, &lost], &found(2 * MOST)), [&lost]);
    }
}
