//! The bill of materials, against what Cargo.lock holds.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use crate::deploy::{output, text};

#[test]
fn the_bill_of_materials_names_what_cargo_lock_holds_and_is_the_same_each_time() {
    let bill_text = output(&mut Command::new("deploy/sbom"));
    assert_eq!(bill_text, output(&mut Command::new("deploy/sbom")));
    let bill: Value = serde_json::from_str(&bill_text).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert_eq!(bill["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));

    let lock: toml::Table = text("Cargo.lock").parse().unwrap();
    let locked: BTreeMap<String, Option<String>> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let word = |key: &str| one.get(key).and_then(toml::Value::as_str).map(str::to_owned);
            let (name, version) = (word("name").unwrap(), word("version").unwrap());
            (format!("pkg:cargo/{name}@{version}"), word("checksum"))
        })
        .collect();
    let components = bill["components"].as_array().unwrap();
    let named: BTreeMap<&str, &Value> =
        components.iter().map(|one| (one["purl"].as_str().unwrap(), one)).collect();
    assert_eq!(named.len(), components.len(), "each is named once");
    for (purl, component) in &named {
        let locked = locked.get(*purl).unwrap_or_else(|| panic!("{purl} is not in Cargo.lock"));
        assert_eq!(component["hashes"][0]["content"].as_str(), locked.as_deref(), "{purl}");
        assert!(component["licenses"][0]["expression"].is_string(), "{purl} has no licence");
    }

    // What the manifest needs is there; what only the tests use is not.
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let has = |name: &str| named.keys().any(|purl| purl.starts_with(&format!("pkg:cargo/{name}@")));
    let needed = manifest["dependencies"].as_table().unwrap().iter();
    let optional =
        |it: &toml::Value| it.get("optional").and_then(toml::Value::as_bool) == Some(true);
    for (name, _) in needed.filter(|(_, it)| !optional(it)) {
        assert!(has(name), "{name}");
    }
    // By a default feature, and by one of packages.
    assert!(has("liblzma") && has("flate2") && has("age"));
    for name in ["proptest", "insta", "assert_cmd", "fuser", "fail"] {
        assert!(!has(name), "{name}");
    }

    let edges = bill["dependencies"].as_array().unwrap();
    assert_eq!(edges.len(), components.len() + 1, "an entry for each, and for the program");
    for needed in edges.iter().flat_map(|edge| edge["dependsOn"].as_array().unwrap()) {
        assert!(named.contains_key(needed.as_str().unwrap()), "{needed}");
    }
}
