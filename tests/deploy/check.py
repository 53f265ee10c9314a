"""Checks deploy/: the chart by Helm's own engine and Kubernetes' schemas, the Dockerfile by hadolint."""

import pathlib
import re
import subprocess
import sys

import helm_python
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/turnpike"
KUBERNETES = "1.31"

# Everything that is off by default, and the other way round.
OTHERWISE = {
    "image": {"tag": "1.2.3"},
    "imagePullSecrets": [{"name": "registry"}],
    "database": {"directUrlKey": "direct"},
    "migrations": {"job": False},
    "tls": {"secret": "certificate"},
    "keyFiles": {"secret": "provider-keys"},
    "settings": {"STREAM_USAGE": "inject", "BODY_BYTES_MAX": "67108864"},
    "secretSettings": {"OPENAI_KEY_A": {"secret": "openai", "key": "a"}},
    "persistence": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"enabled": True},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}


def documents(chart, values):
    """What is sent to Kubernetes, by kind and name."""
    found = {}
    for path, text in chart.render(values).items():
        if path.endswith(".txt"):
            continue
        for document in yaml.safe_load_all(text):
            if document:
                found[document["kind"], document["metadata"]["name"]] = document
    return found


def one(found, kind):
    (document,) = [document for (its_kind, _), document in found.items() if its_kind == kind]
    return document


def settings_known():
    text = (ROOT / "config/example.env").read_text()
    return set(re.findall(r"^#?([A-Z0-9_]+)=", text, re.MULTILINE))


def check_chart():
    chart = helm_python.Chart.load(CHART)
    for values in ({}, OTHERWISE):
        report = helm_python.lint(CHART, values, strict=True, kube_version=f"v{KUBERNETES}.0")
        problems = [message for message in report["messages"] if message["severity"] > 1]
        assert not report["errors"] and not problems, report
        found = documents(chart, values)
        for (kind, name), document in found.items():
            if kind != "ServiceMonitor":  # Prometheus Operator's own.
                kubernetes_validate.validate(document, KUBERNETES, strict=True)
        pods = one(found, "StatefulSet")["spec"]["template"]["spec"]
        check_pod(pods, chart.merge_values(values))
        assert {kind for kind, _ in found} >= {"Service", "ServiceAccount", "StatefulSet"}, found.keys()
    assert ("Job", "release-name-turnpike-migrate") in documents(chart, {})
    kinds = {kind for kind, _ in documents(chart, OTHERWISE)}
    assert {"HorizontalPodAutoscaler", "ServiceMonitor", "NetworkPolicy"} <= kinds, kinds
    assert not {"Job", "PodDisruptionBudget"} & kinds, kinds
    for wrong in (
        {"replicas": 0},
        {"replicaCount": 3},
        {"settings": {"BODY_BYTES_MAX": 67108864}},
        {"settings": {"log_level": "info"}},
        {"settings": {"PORT": "80"}},
        {"secretSettings": {"DATABASE_URL": {"secret": "a", "key": "b"}}},
        {"secretSettings": {"OPENAI_API_KEY": "sk-plain"}},
    ):
        try:
            chart.validate_schema(wrong)
            chart.render(wrong)
        except helm_python.HelmError:
            continue
        raise AssertionError(f"{wrong} is accepted")


def check_pod(pod, values):
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    environment = {variable["name"]: variable for variable in container["env"]}
    assert len(environment) == len(container["env"]), "a name stands twice"
    names = set(environment) - set(values["secretSettings"])
    assert names <= settings_known(), names - settings_known()
    for secret in ("ADMIN_TOKEN", "DATABASE_URL"):
        assert "secretKeyRef" in environment[secret]["valueFrom"]
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    for name in ("SHUTDOWN_DELAY_SECONDS", "SHUTDOWN_SECONDS"):
        wait += int(environment[name]["value"])
    # Workers get 5 s more than their exchanges, and the last charges 10.
    assert pod["terminationGracePeriodSeconds"] >= wait + 15
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert environment["DATA_DIR"]["value"] in mounted
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def check_dockerfile():
    hadolint = pathlib.Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, ROOT / "deploy/Dockerfile"], check=True)
    text = (ROOT / "deploy/Dockerfile").read_text()
    assert "HEALTHCHECK" in text and ":nonroot" in text
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    turnpike = compose["services"]["turnpike"]
    assert turnpike["read_only"] and turnpike["cap_drop"] == ["ALL"]
    for path in ("deploy/compose.yaml", "deploy/compose.metrics.yaml"):
        services = yaml.safe_load((ROOT / path).read_text())["services"]
        names = set(services["turnpike"]["environment"])
        assert names <= settings_known(), names - settings_known()


check_chart()
check_dockerfile()
print("the chart and the Dockerfile are in order")
