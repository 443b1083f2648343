//! The defaults are well formed, and mending puts back what is missing and nothing else.

use super::*;
use crate::registry::{self, Problems};

fn find(plural: &str, name: &str) -> Value {
    all()
        .into_iter()
        .find(|one| one.plural == plural && one.name() == name)
        .unwrap_or_else(|| panic!("{plural} {name}"))
        .object
}

#[test]
fn every_default_is_valid_and_there_once() {
    let mut seen = std::collections::HashSet::new();
    for one in all() {
        assert!(
            seen.insert((one.plural, one.namespace.clone(), one.name().to_owned())),
            "{} twice",
            one.name()
        );
        let kind = registry::find(API_GROUP, "v1", one.plural).expect("a kind");
        assert_eq!(kind.namespaced, !one.namespace.is_empty());
        let mut problems = Problems::default();
        (kind.validate)(&one.object, &mut problems);
        assert!(problems.is_empty(), "{} {problems:?}", one.name());
        let mut defaulted = one.object.clone();
        (kind.defaults)(&mut defaulted);
        assert_eq!(defaulted, one.object, "{}", one.name());
        let unknown = crate::schema::Schemas::load().unknown_fields(&kind.gvk(), &one.object);
        assert!(unknown.is_empty(), "{} {unknown:?}", one.name());
    }
    assert!(seen.len() > 70, "{}", seen.len());
}

#[test]
fn the_best_known_are_upstreams() {
    assert_eq!(
        find("clusterroles", "cluster-admin")["rules"],
        json!([
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ])
    );
    let edit = find("clusterroles", "edit");
    assert_eq!(edit["rules"], json!([]));
    assert_eq!(
        edit["aggregationRule"]["clusterRoleSelectors"],
        json!([{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}])
    );
    assert_eq!(
        edit["metadata"]["labels"],
        json!({"kubernetes.io/bootstrapping": "rbac-defaults", "rbac.authorization.k8s.io/aggregate-to-admin": "true"})
    );
    let core = find("clusterroles", "system:aggregate-to-view")["rules"][2].clone();
    assert_eq!(
        core,
        json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["namespaces"]})
    );
    let public = find("clusterrolebindings", "system:public-info-viewer");
    assert_eq!(
        public["subjects"],
        json!([
            {"apiGroup": API_GROUP, "kind": "Group", "name": "system:authenticated"},
            {"apiGroup": API_GROUP, "kind": "Group", "name": "system:unauthenticated"},
        ])
    );
    let reader = find(
        "rolebindings",
        "system::extension-apiserver-authentication-reader",
    );
    assert_eq!(
        reader["roleRef"],
        json!({"apiGroup": API_GROUP, "kind": "Role", "name": "extension-apiserver-authentication-reader"})
    );
}

#[test]
fn what_is_missing_comes_back_and_the_rest_stays() {
    let expected = find("clusterroles", "system:discovery");
    assert_eq!(mend(&expected, &expected), Mending::Nothing);

    let mut robbed = expected.clone();
    robbed["rules"] = json!([{"verbs": ["get"], "nonResourceURLs": ["/api", "/mine"]}]);
    robbed["metadata"]["labels"] = json!({"mine": "1", "kubernetes.io/bootstrapping": "no"});
    let Mending::Update(mended) = mend(&robbed, &expected) else {
        panic!("nothing was mended");
    };
    assert_eq!(
        mended["rules"][0], robbed["rules"][0],
        "what was added stays"
    );
    assert_eq!(
        mended["metadata"]["labels"], robbed["metadata"]["labels"],
        "what was set stays"
    );
    assert_eq!(
        coverage(&Rule::of_role(&mended), &Rule::of_role(&expected)),
        Coverage::Whole
    );
    assert_eq!(mend(&mended, &expected), Mending::Nothing, "once is enough");

    let mut kept = robbed;
    kept["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
    assert_eq!(mend(&kept, &expected), Mending::Nothing);

    let expected = find("clusterroles", "view");
    let mut aggregated = expected.clone();
    aggregated["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    assert_eq!(mend(&aggregated, &expected), Mending::Nothing);
    aggregated["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let Mending::Update(mended) = mend(&aggregated, &expected) else {
        panic!("nothing was mended");
    };
    assert_eq!(
        mended["aggregationRule"]["clusterRoleSelectors"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[test]
fn bindings_get_their_subjects_back_and_their_role() {
    let expected = find("clusterrolebindings", "cluster-admin");
    let mut other = expected.clone();
    other["subjects"] = json!([{"apiGroup": API_GROUP, "kind": "User", "name": "jane"}]);
    let Mending::Update(mended) = mend(&other, &expected) else {
        panic!("nothing was mended");
    };
    assert_eq!(mended["subjects"].as_array().map(Vec::len), Some(2));
    other["roleRef"]["name"] = "view".into();
    assert_eq!(mend(&other, &expected), Mending::Replace);
}
