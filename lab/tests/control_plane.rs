//! The control plane is real: objects get controllers, Pods become ready, roles are enforced, and the audit log knows
//! who asked.

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use lab::control_plane::{ADMIN, NODE};
use lab::{ControlPlane, ControlPlaneOptions, Session};
use serde_json::json;

#[tokio::test]
async fn deployments_become_ready_and_the_audit_log_tells_users_apart() {
    let session = Session::start().await.unwrap();
    let plane = ControlPlane::start(&session, ControlPlaneOptions::default()).await.unwrap();
    let (shop, other) = tokio::join!(plane.namespace("shop"), plane.namespace("other"));
    shop.and(other).unwrap();
    plane.deployment("shop", "orders-api", 3).await.unwrap();
    let client = plane.client().await.unwrap();
    let pods = Api::<Pod>::namespaced(client.clone(), "shop").list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.len(), 3);
    for pod in &pods {
        assert_eq!(pod.spec.as_ref().unwrap().node_name.as_deref(), Some(NODE));
    }

    // Another user, with a role in one namespace: the built-in role is filled by a controller.
    let rights = plane
        .kubectl_run(
            &["create", "rolebinding", "b", "-n", "shop", "--clusterrole=edit", "--user=operator"],
            "",
        )
        .await
        .unwrap();
    rights.success("binding a role").unwrap();
    let kubeconfig = plane.kubeconfig_for("operator", &["team:a", "team:b"]).unwrap();
    let deployments = |namespace| {
        let kubeconfig = kubeconfig.clone();
        let plane = &plane;
        async move {
            let client = plane.client_with(&kubeconfig).await.unwrap();
            Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(client, namespace)
        }
    };
    let scale = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let in_shop = deployments("shop").await;
    let allowed = lab::until(std::time::Duration::from_secs(20), async || {
        in_shop.patch_scale("orders-api", &PatchParams::default(), &scale).await.ok()
    });
    allowed.await.expect("the role `edit` never allowed to scale");
    plane.deployment_ready("shop", "orders-api", 5).await.unwrap();
    let refused = deployments("other").await.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");

    let events = plane.audit_of("operator").unwrap();
    let patch =
        events.iter().find(|event| event.is_for("deployments", "scale") && event.code() == 200).unwrap();
    assert_eq!((patch.verb.as_str(), patch.is_write(), patch.user_agent.as_str()), ("patch", true, "lab"));
    assert_eq!(patch.object_ref.as_ref().unwrap().namespace, "shop");
    assert_eq!(patch.request_object.as_ref().unwrap()["spec"]["replicas"], 5);
    for group in ["team:a", "team:b", "system:authenticated"] {
        assert!(patch.user.groups.iter().any(|found| found == group), "{:?}", patch.user.groups);
    }
    let list = events.iter().find(|event| event.verb == "list" && event.code() == 403).unwrap();
    assert!(list.is_for("deployments", "") && !list.is_write());
    assert!(patch.request_received_timestamp.0 < list.request_received_timestamp.0);
    let users: std::collections::BTreeSet<String> =
        plane.audit().unwrap().into_iter().map(|event| event.user.username).collect();
    let service_accounts = |user: &&String| !user.starts_with("system:serviceaccount:");
    let users: Vec<&String> = users.iter().filter(service_accounts).collect();
    assert_eq!(users, [ADMIN, "operator"], "the control plane's own requests are noise");
}

#[tokio::test]
async fn kubectl_works_and_what_is_deleted_goes() {
    let session = Session::start().await.unwrap();
    let plane = ControlPlane::start(&session, ControlPlaneOptions::default()).await.unwrap();
    plane.namespace("shop").await.unwrap();
    let template = lab::control_plane::pod_template("web");
    let set = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 2, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    });
    for object in [set, service] {
        let applied = plane.kubectl_run(&["apply", "-f", "-"], &object.to_string()).await.unwrap();
        applied.success("applying").unwrap();
    }
    let wait = ["rollout", "status", "-n", "shop", "statefulset/web", "--timeout=30s"];
    plane.kubectl_run(&wait, "").await.unwrap().success("waiting for the StatefulSet").unwrap();
    let slices =
        ["wait", "-n", "shop", "endpointslice", "-l", "kubernetes.io/service-name=web", "--timeout=30s"];
    let ready = "--for=jsonpath={.endpoints[1].conditions.ready}=true";
    let slices = [&slices[..], &[ready]].concat();
    plane.kubectl_run(&slices, "").await.unwrap().success("waiting for endpoints").unwrap();
    let version = plane.kubectl_run(&["version"], "").await.unwrap().success("asking").unwrap().stdout;
    assert!(version.contains("Server Version: v1.35."), "{version}");

    let refused = plane.kubectl_run(&["get", "nonsense"], "").await.unwrap();
    assert!(!refused.status.success() && refused.stderr.contains("nonsense"));
    let delete = ["delete", "namespace", "shop", "--timeout=40s"];
    plane.kubectl_run(&delete, "").await.unwrap().success("deleting the namespace").unwrap();
    let client = plane.client().await.unwrap();
    assert!(Api::<ServiceAccount>::namespaced(client, "shop").get_opt("default").await.unwrap().is_none());
}

#[tokio::test]
async fn a_killed_api_server_refuses_and_comes_back_with_everything() {
    let session = Session::start().await.unwrap();
    let mut plane = ControlPlane::start(&session, ControlPlaneOptions::default()).await.unwrap();
    plane.namespace("shop").await.unwrap();
    plane.deployment("shop", "orders-api", 1).await.unwrap();
    plane.kill_api_server().await.unwrap();
    let client = plane.client().await.unwrap();
    let pods = Api::<Pod>::namespaced(client, "shop");
    assert!(pods.list(&ListParams::default()).await.is_err(), "a killed API server answers");
    plane.start_api_server_again().await.unwrap();
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);
    // The controllers find it again as well.
    plane.deployment("shop", "second", 2).await.unwrap();
}
