//! The manifests, against Kubernetes' own schemas and against what the service is.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    deploy::{output, root, text},
    files::TestDir,
};

const FILES: [&str; 4] = ["config", "deployment", "statefulset", "service"];

/// A program of the environment that tests/run makes.
fn of_environment(name: &str) -> PathBuf {
    root().join("target/test-python/bin").join(name)
}

fn paths() -> Vec<String> {
    FILES.iter().map(|name| format!("deploy/kubernetes/{name}.yaml")).collect()
}

/// Every document of every manifest.
fn documents() -> Vec<Value> {
    let script = "import json, sys, yaml\nprint(json.dumps([one for path in sys.argv[1:] for one in yaml.safe_load_all(open(path))]))";
    let documents =
        output(Command::new(of_environment("python")).args(["-c", script]).args(paths()));
    serde_json::from_str(&documents).unwrap()
}

fn of_kind(kind: &str) -> Vec<Value> {
    documents().into_iter().filter(|document| document["kind"] == kind).collect()
}

/// The pods of the Deployment and of the StatefulSet.
fn pods() -> Vec<Value> {
    let mut workloads = of_kind("Deployment");
    workloads.extend(of_kind("StatefulSet"));
    assert_eq!(workloads.len(), 2);
    workloads.into_iter().map(|workload| workload["spec"]["template"]["spec"].clone()).collect()
}

#[test]
fn the_manifests_are_valid_by_the_schemas_of_old_and_new_clusters() {
    for version in ["1.30", "1.34"] {
        let validate = of_environment("kubernetes-validate");
        output(Command::new(validate).args(["--strict", "-k", version]).args(paths()));
    }
    let listed = std::fs::read_dir(root().join("deploy/kubernetes")).unwrap().count();
    assert_eq!(listed, FILES.len(), "a manifest is not validated");
}

#[test]
fn the_schemas_notice_a_wrong_key() {
    let place = TestDir::new();
    let wrong = place.root().join("wrong.yaml");
    std::fs::write(
        &wrong,
        text("deploy/kubernetes/deployment.yaml").replace("replicas:", "replica:"),
    )
    .unwrap();
    let mut validate = Command::new(of_environment("kubernetes-validate"));
    let ended = validate.args(["--strict", "-k", "1.34"]).arg(&wrong).output().unwrap();
    assert!(!ended.status.success());
}

#[test]
fn one_pod_at_a_time_has_an_input() {
    let deployment = &of_kind("Deployment")[0]["spec"];
    assert_eq!(
        (&deployment["replicas"], &deployment["strategy"]["type"]),
        (&1.into(), &"Recreate".into())
    );
}

/// The restricted profile of the pod security standards.
#[test]
fn the_pods_are_restricted() {
    for pod in pods() {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["automountServiceAccountToken"], false);
        for name in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[name], Value::Null, "{name}");
        }
        let containers = pod["containers"].as_array().unwrap().iter();
        for container in containers.chain(pod["initContainers"].as_array().unwrap()) {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}));
            assert!(container["resources"]["limits"]["memory"].is_string());
        }
    }
}

#[test]
fn the_probes_ask_what_the_service_answers() {
    for pod in pods() {
        let container = &pod["containers"][0];
        for (probe, path) in
            [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
        {
            assert_eq!(container[probe]["httpGet"]["path"], path);
            assert_eq!(container[probe]["httpGet"]["port"], "http");
        }
        let port = &container["ports"][0];
        assert_eq!((&port["name"], &port["containerPort"]), (&"http".into(), &9464.into()));
        let args = container["args"].as_array().unwrap();
        assert!(args.contains(&"0.0.0.0:9464".into()), "a probe does not come from loopback");
    }
    let service = &of_kind("Service")[0];
    assert_eq!(service["spec"]["ports"][0]["port"], 9464);
    let policy = &of_kind("NetworkPolicy")[0]["spec"];
    assert_eq!(policy["egress"], serde_json::json!([]));
    assert_eq!(policy["ingress"][0]["ports"][0]["port"], 9464);
}

#[test]
fn the_configuration_of_the_pods_is_valid_where_they_mount_it() {
    let config = of_kind("ConfigMap")[0]["data"]["tidemill.toml"].as_str().unwrap().to_owned();
    let place = TestDir::new();
    let root = place.root();
    std::fs::create_dir_all(root.join("data/in")).unwrap();
    std::fs::create_dir_all(root.join("data/out")).unwrap();
    for path in ["/data", "/state"] {
        assert!(config.contains(&format!("\"{path}")), "{path}");
        for pod in pods() {
            let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap().clone();
            assert!(mounts.iter().any(|mount| mount["mountPath"] == path), "{path}");
        }
    }
    let here = config
        .replace("\"/data", &format!("\"{}/data", root.display()))
        .replace("\"/state", &format!("\"{}/state", root.display()));
    std::fs::write(root.join("tidemill.toml"), here).unwrap();
    let checked = place.run(&["check", "--config", "tidemill.toml"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}
