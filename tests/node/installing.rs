//! From nothing to a healed incident and back, with only the chart, the image, and the commands of the documents.

use crate::Test;
use crate::docs::follow;
use crate::support::{DATABASE, deadline, run, world};

pub(crate) const TESTS: &[Test] = &[
    ("from_nothing_to_a_healed_incident_as_typed", from_nothing_to_a_healed_incident_as_typed),
    ("the_operators_pods_are_what_the_chart_promises", the_operators_pods_are_what_the_chart_promises),
    ("a_node_is_drained_under_the_leader", a_node_is_drained_under_the_leader),
    ("an_uninstallation_leaves_definitions_and_history", an_uninstallation_leaves_definitions_and_history),
];

const GUIDE: &str = "docs/getting-started.md";
const LEADER: &str =
    "kubectl get lease -n latency-operator latency-operator -o jsonpath='{.spec.holderIdentity}'";

fn from_nothing_to_a_healed_incident_as_typed() {
    run(async {
        let world = world().await;
        let installed = follow(world, GUIDE, "## Install").await;
        assert!(installed.contains("STATUS: deployed"), "{installed}");
        assert_eq!(installed.matches("1/1     Running   0").count(), 2, "{installed}");

        let observed = follow(world, GUIDE, "## Observe").await;
        // Read in part: what is missing is said with its remedy.
        let grant = "grant pg_read_all_stats to orders".to_owned();
        assert!(observed.to_lowercase().contains(&grant), "{observed}");
        follow(world, GUIDE, "## See the whole database").await;
        follow(world, GUIDE, "## Let it act").await;

        let _suffering = world.suffer_while_reporting();
        let report = world.report(DATABASE).await;
        let story = follow(world, GUIDE, "## Break it").await;
        let ended = report.ended().await;
        assert!(ended.as_ref().is_err_and(|error| error.contains("user request")), "{ended:?}");
        assert_eq!(world.cancelled(), 1, "one statement, once");
        for told in ["ObjectiveBreached", "RemediationStarted", "RemediationCompleted"] {
            assert_eq!(story.matches(told).count(), 1, "{told}: {story}");
        }
        assert!(story.contains("RunawayQuery (Certain)"), "{story}");
        assert!(story.contains("Healed"), "{story}");
        follow(world, GUIDE, "## Stop it").await;
    });
}

fn the_operators_pods_are_what_the_chart_promises() {
    run(async {
        let world = world().await;
        // Not by what is asked for but by what runs: the kernel's own view of the process.
        let pods = "kubectl get pods -n latency-operator -l app.kubernetes.io/component=operator \
                    -o jsonpath='{range .items[*]}{.spec.nodeName}{\"\\n\"}{end}'";
        let nodes = world.shell(pods).await;
        let mut nodes: Vec<&str> = nodes.lines().collect();
        nodes.sort_unstable();
        assert_eq!(nodes, ["node-1", "node-2"], "the replicas are spread");
        let processes = world.shell("pgrep -f '^/latency-operator run'").await;
        assert_eq!(processes.lines().count(), 2);
        for process in processes.lines() {
            let status = world.shell(&format!("cat /proc/{process}/status")).await;
            let of = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            };
            assert_eq!(of("Uid:"), "65532 65532 65532 65532");
            for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                assert_eq!(of(set), "0000000000000000", "{set}");
            }
            assert_eq!((of("NoNewPrivs:").as_str(), of("Seccomp:").as_str()), ("1", "2"));
            let mounts = world.shell(&format!("cat /proc/{process}/mounts")).await;
            let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).expect("a root");
            assert!(
                root.split(' ').nth(3).is_some_and(|options| options.split(',').any(|one| one == "ro")),
                "{root}"
            );
        }
    });
}

fn a_node_is_drained_under_the_leader() {
    run(async {
        let world = world().await;
        let before = world.shell(LEADER).await;
        let pod = before.split('_').next().expect("a Pod's name").to_owned();
        let node = world
            .shell(&format!("kubectl get pod -n latency-operator {pod} -o jsonpath='{{.spec.nodeName}}'"))
            .await;
        world
            .shell(&format!(
                "kubectl drain {node} --ignore-daemonsets --force --delete-emptydir-data {}",
                deadline(80)
            ))
            .await;
        let after = world.until(LEADER, |holder| !holder.is_empty() && holder != before).await;
        assert!(!after.starts_with(&pod), "{after}");
        // It goes on where the other one was: it looks and says so.
        let ready = "kubectl get lp orders-api -n shop -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'";
        assert_eq!(world.shell(ready).await, "True");
        world.shell(&format!("kubectl uncordon {node}")).await;
        world.rolled_out("latency-operator", "latency-operator").await;
        assert_eq!(world.cancelled(), 1, "nothing was done twice");
    });
}

fn an_uninstallation_leaves_definitions_and_history() {
    run(async {
        let world = world().await;
        let gone = follow(world, GUIDE, "## Uninstall").await;
        assert!(gone.contains("orders-api-"), "the history stays: {gone}");
        world.nothing_is_left().await;
        let kinds = world.shell("kubectl get crd -o name").await;
        assert_eq!(kinds.lines().count(), 4, "{kinds}");
    });
}
