//! Custom resources with the real kubectl: a definition, its objects, and their end.

use crate::support::{Space, holds};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.harbour.example}
spec:
  group: harbour.example
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bo], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: A boat.
        properties:
          spec:
            type: object
            required: [color]
            properties:
              color: {type: string, enum: [red, green], description: How it looks.}
              size: {type: integer, minimum: 1, default: 3}
              replicas: {type: integer}
            x-kubernetes-validations:
            - {rule: "self.size < 100", message: "it would not float"}
          status:
            type: object
            properties: {replicas: {type: integer}, selector: {type: string}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    additionalPrinterColumns:
    - {name: Color, type: string, jsonPath: .spec.color}
"#;

fn boat(spec: &str) -> String {
    format!(
        "apiVersion: harbour.example/v1\nkind: Boat\nmetadata: {{name: ada}}\nspec: {{{spec}}}\n"
    )
}

pub fn a_definition_and_its_objects_with_kubectl() {
    let space = Space::new("custom");
    let all = &space.instance;
    all.kubectl("apply -f -").stdin(DEFINITION).ok();
    all.kubectl("wait --for=condition=Established crd/boats.harbour.example --timeout=20s")
        .ok();
    space
        .kubectl("apply -f -")
        .stdin(boat("color: red, replicas: 2"))
        .ok();
    holds(&space.kubectl("get bo").ok(), "COLOR");
    holds(&space.kubectl("get all").ok(), "boat.harbour.example/ada");
    holds(
        &space.kubectl("explain boat.spec.color").ok(),
        "How it looks.",
    );
    holds(&space.kubectl("describe boat ada").ok(), "Size:      3");
    // a second time it is a merge patch
    space
        .kubectl("apply -f -")
        .stdin(boat("color: green, replicas: 2"))
        .ok();
    space.kubectl("scale boat ada --replicas=5").ok();
    assert_eq!(space.field("boats/ada", ".spec.replicas"), "5");
    assert_eq!(space.field("boats/ada", ".spec.color"), "green");
    space
        .kubectl("patch boat ada --type=merge -p {\"spec\":{\"size\":7}}")
        .ok();
    space
        .kubectl("apply --server-side --force-conflicts --field-manager=e2e -f -")
        .stdin(boat("color: red"))
        .ok();
    assert_eq!(space.field("boats/ada", ".spec.color"), "red");
    let refused = space
        .kubectl("apply -f -")
        .stdin(boat("color: blue"))
        .fails(1);
    holds(&refused, "supported values: \"green\", \"red\"");
    let refused = space
        .kubectl("apply -f -")
        .stdin(boat("color: red, sails: 2"))
        .fails(1);
    holds(&refused, "unknown field \"spec.sails\"");
    let refused = space
        .kubectl("apply -f -")
        .stdin(boat("color: red, size: 100"))
        .fails(1);
    holds(&refused, "it would not float");
    space.kubectl("delete boat ada").ok();
    space.kubectl("apply -f -").stdin(boat("color: red")).ok();
    all.kubectl("delete crd boats.harbour.example --timeout=30s")
        .ok();
    // by what kubectl remembers of discovery, or by what the server says
    let gone = space.kubectl("get boats").fails(1);
    let told = [
        "resource type \"boats\"",
        "could not find the requested resource",
    ];
    assert!(told.iter().any(|words| gone.contains(words)), "{gone}");
}
