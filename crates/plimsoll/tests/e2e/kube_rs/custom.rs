//! Custom objects by derive, and a controller of them: reconciled when they or what they own change, finalized when they go.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::{is_crd_established, is_deleted};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::wait::await_condition;
use kube::runtime::watcher;
use kube::{Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{refused, soon, with_client};
use crate::support::{Space, holds};

/// A ship has as many sails as it is told to.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "kube-rs.e2e.plimsoll.dev",
    version = "v1",
    kind = "Ship",
    namespaced,
    status = "ShipStatus",
    shortname = "kubersship",
    printcolumn(name = "Set", type_ = "integer", json_path = ".status.set"),
    scale(
        spec_replicas_path = ".spec.sails",
        status_replicas_path = ".status.set"
    )
)]
struct ShipSpec {
    #[schemars(range(min = 0, max = 40))]
    sails: i32,
    #[serde(default = "flag")]
    flag: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct ShipStatus {
    set: i32,
}

fn flag() -> String {
    "plain".to_owned()
}

/// What the controller works with.
struct Crew {
    client: Client,
    /// The names of ships that it has laid up.
    laid_up: UnboundedSender<String>,
}

const FINALIZER: &str = "kube-rs.e2e.plimsoll.dev/lay-up";

async fn reconcile(
    ship: Arc<Ship>,
    crew: Arc<Crew>,
) -> Result<Action, finalizer::Error<kube::Error>> {
    let ships: Api<Ship> = Api::default_namespaced(crew.client.clone());
    finalizer(&ships, FINALIZER, ship, |event| async {
        match event {
            finalizer::Event::Apply(ship) => {
                sail(
                    &ship,
                    &crew.client,
                    Api::default_namespaced(crew.client.clone()),
                )
                .await
            }
            finalizer::Event::Cleanup(ship) => {
                let _ = crew.laid_up.send(ship.name_any());
                Ok(Action::await_change())
            }
        }
    })
    .await
}

/// Keeps the ship's log, an object that it owns, and its status.
async fn sail(ship: &Ship, client: &Client, ships: Api<Ship>) -> Result<Action, kube::Error> {
    let name = ship.name_any();
    let logs: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let log = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [ship.controller_owner_ref(&())]},
        "data": {"sails": ship.spec.sails.to_string()},
    });
    let crew = PatchParams::apply("crew").force();
    logs.patch(&name, &crew, &Patch::Apply(log)).await?;
    let set = ship.spec.sails;
    if ship.status.as_ref().is_none_or(|status| status.set != set) {
        let recorder = Recorder::new(client.clone(), Reporter::from("crew"));
        let note = Event {
            type_: EventType::Normal,
            reason: "Sailing".to_owned(),
            note: Some(format!("{set} sails are set")),
            action: "Set".to_owned(),
            secondary: None,
        };
        recorder.publish(&note, &ship.object_ref(&())).await?;
        let status = Patch::Merge(json!({"status": {"set": set}}));
        ships
            .patch_status(&name, &PatchParams::default(), &status)
            .await?;
    }
    Ok(Action::await_change())
}

pub fn a_controller_of_custom_objects_does_its_work() {
    let space = Space::new("kube-rs-custom");
    // definitions are of the whole cluster
    let role = "kube-rs-custom";
    // a role may name what is not there yet, kubectl refuses to
    let rules = r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "kube-rs-custom"}, "rules": [
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["*"]},
        {"apiGroups": ["kube-rs.e2e.plimsoll.dev"], "resources": ["ships", "ships/status", "ships/scale", "ships/finalizers"], "verbs": ["*"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}]}"#;
    space.apply(rules);
    space
        .kubectl(&format!(
            "create clusterrolebinding {role} --clusterrole={role} --serviceaccount={}:robot",
            space.name
        ))
        .ok();
    with_client(&space, "edit", steered);
    let described = space.kubectl("get events").ok();
    holds(&described, "7 sails are set");
    for kind in ["clusterrolebinding", "clusterrole"] {
        space.kubectl(&format!("delete {kind} {role}")).ok();
    }
}

async fn steered(client: Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crew = PatchParams::apply("crew");
    let name = Ship::crd_name();
    definitions
        .patch(name, &crew, &Patch::Apply(Ship::crd()))
        .await
        .expect("applied");
    let established = await_condition(definitions.clone(), name, is_crd_established());
    soon("the definition is served", established)
        .await
        .expect("it is");

    let ships: Api<Ship> = Api::default_namespaced(client.clone());
    let logs: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let (laid_up, mut reports) = unbounded_channel();
    let context = Arc::new(Crew {
        client: client.clone(),
        laid_up,
    });
    let stop = tokio_util::sync::CancellationToken::new();
    let controller = Controller::new(ships.clone(), watcher::Config::default())
        .owns(logs.clone(), watcher::Config::default())
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            reconcile,
            |_, error, _| {
                // a conflict with the test's own writes is no failure: it is done again
                eprintln!("not reconciled: {error}");
                Action::requeue(Duration::from_millis(200))
            },
            context,
        )
        .for_each(|_| std::future::ready(()));
    let controller = tokio::spawn(controller);

    let ship = Ship::new(
        "argo",
        ShipSpec {
            sails: 3,
            flag: "white".to_owned(),
        },
    );
    ships
        .create(&PostParams::default(), &ship)
        .await
        .expect("created");
    let mut bad = Ship::new("bad", ship.spec.clone());
    bad.spec.sails = 41;
    assert_eq!(
        refused(ships.create(&PostParams::default(), &bad).await),
        (422, "Invalid".into())
    );
    let set = |sails: i32| {
        let ships = ships.clone();
        async move {
            let set = move |ship: Option<&Ship>| {
                let status = ship.and_then(|ship| ship.status.as_ref());
                status.is_some_and(|status| status.set == sails)
            };
            let reached = await_condition(ships, "argo", set);
            soon("the status follows", reached).await.expect("it does");
        }
    };
    set(3).await;
    let found = ships.get("argo").await.expect("read");
    assert_eq!(found.finalizers(), [FINALIZER]);
    // through the scale subresource, which reads and writes other fields
    let seven = Patch::Merge(json!({"spec": {"replicas": 7}}));
    ships
        .patch_scale("argo", &PatchParams::default(), &seven)
        .await
        .expect("scaled");
    set(7).await;
    let scale = ships.get_scale("argo").await.expect("a scale");
    assert_eq!(scale.status.map(|status| status.replicas), Some(7));
    // what it owns is made again, and follows
    let log = logs.get("argo").await.expect("read");
    assert_eq!(log.data.as_ref().expect("data")["sails"], "7");
    logs.delete("argo", &DeleteParams::default())
        .await
        .expect("deleted");
    let old = log.uid().expect("a uid");
    let renewed = move |map: Option<&ConfigMap>| {
        map.is_some_and(|map| map.uid().is_some_and(|uid| uid != old))
    };
    let again = await_condition(logs.clone(), "argo", renewed);
    soon("the log is made again", again).await.expect("it is");

    let uid = found.uid().expect("a uid");
    ships
        .delete("argo", &DeleteParams::default())
        .await
        .expect("deleted");
    let report = soon("the ship is laid up", reports.recv()).await;
    assert_eq!(report.as_deref(), Some("argo"));
    let gone = await_condition(ships.clone(), "argo", is_deleted(&uid));
    soon("the ship is gone", gone).await.expect("it is");
    stop.cancel();
    soon("the controller ends", controller)
        .await
        .expect("it does not panic");
    let definition = definitions.get(name).await.expect("read");
    let uid = definition.uid().expect("a uid");
    definitions
        .delete(name, &DeleteParams::default())
        .await
        .expect("deleted");
    let gone = await_condition(definitions, name, is_deleted(&uid));
    soon("the definition is gone", gone).await.expect("it is");
}
