"""Whose rights end where, and how objects end."""

from common import NAMESPACE, core, point, same, refused, eventually

from kubernetes import client
from kubernetes.client.exceptions import ApiException


@point
def tokens_of_an_account():
    body = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="robot"))
    core.create_namespaced_service_account(NAMESPACE, body)
    request = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)
    )
    token = core.create_namespaced_service_account_token("robot", NAMESPACE, request).status.token
    settings = client.Configuration.get_default_copy()
    settings.api_key = {"authorization": f"Bearer {token}"}
    settings.cert_file = settings.key_file = None
    robot = client.ApiClient(settings)
    review = client.AuthenticationV1Api(robot).create_self_subject_review({"metadata": {}})
    same(review.status.user_info.username, f"system:serviceaccount:{NAMESPACE}:robot", "the name")
    refused(403, "Forbidden", client.CoreV1Api(robot).list_namespaced_secret, NAMESPACE)
    rights = client.RbacAuthorizationV1Api()
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
    rights.create_namespaced_role(NAMESPACE, {"metadata": {"name": "reader"}, "rules": [rule]})
    rights.create_namespaced_role_binding(
        NAMESPACE,
        {
            "metadata": {"name": "reads"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": NAMESPACE}],
        },
    )

    def may():
        try:
            return client.CoreV1Api(robot).list_namespaced_secret(NAMESPACE).items
        except ApiException as error:
            same(error.status, 403, "the status")
            return False

    eventually(may, "the role's right")


@point
def deletes():
    gone = core.delete_namespaced_config_map("one", NAMESPACE)
    same((gone["kind"], gone["status"]), ("Status", "Success"), "the answer")
    refused(404, "NotFound", core.delete_namespaced_config_map, "one", NAMESPACE)
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="rows")
    same(core.list_namespaced_config_map(NAMESPACE, label_selector="rows").items, [], "the rows that are left")
    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    refused(409, "Conflict", core.delete_namespaced_pod, "shell", NAMESPACE, body=wrong)
    going = core.delete_namespaced_pod("shell", NAMESPACE, grace_period_seconds=1)
    assert going.metadata.deletion_timestamp, going.metadata
    names = lambda: {one.metadata.name for one in core.list_namespaced_pod(NAMESPACE).items}
    eventually(lambda: "shell" not in names(), "the pod's end")
    for name in names():
        core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
    eventually(lambda: not names(), "the end of all pods")
