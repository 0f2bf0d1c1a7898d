//! The part of JSON Schema that the API's document uses. A keyword that is not known here fails, so
//! that nothing of the document is passed over.

use serde_json::Value;

/// The service's own description of itself.
pub fn document() -> Value {
    serde_json::from_str(include_str!("../../../src/http/openapi.json")).unwrap()
}

/// All that is wrong with this value, with the place of each.
pub fn wrong(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "", &mut found);
    found
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    for (keyword, asked) in schema.as_object().unwrap() {
        let mut say = |what: &str| wrong.push(format!("{at}: {what} {asked}, and is {value}"));
        match keyword.as_str() {
            "description" | "default" => {}
            "format" => {
                let text = value.as_str().unwrap_or_default();
                assert_eq!(asked, "date-time", "a format that is not known here");
                if text.parse::<jiff::Timestamp>().is_err() || !text.ends_with('Z') {
                    say("a time in UTC");
                }
            }
            "$ref" => {
                let pointer = asked.as_str().unwrap().trim_start_matches('#');
                let schema = document.pointer(pointer).unwrap();
                check(document, schema, value, at, wrong);
            }
            "anyOf" => {
                let fits = |schema| self::wrong(document, schema, value).is_empty();
                if !asked.as_array().unwrap().iter().any(fits) {
                    say("one of");
                }
            }
            "type" => {
                let types =
                    asked.as_array().map_or_else(|| vec![asked], |all| all.iter().collect());
                if !types.iter().any(|kind| is_a(kind.as_str().unwrap(), value)) {
                    say("of type");
                }
            }
            "enum" if !asked.as_array().unwrap().contains(value) => say("one of"),
            "minimum" if value.as_f64().is_some_and(|n| n < asked.as_f64().unwrap()) => {
                say("at least");
            }
            "enum" | "minimum" => {}
            "required" => {
                for key in asked.as_array().unwrap() {
                    if value.get(key.as_str().unwrap()).is_none() {
                        wrong.push(format!("{at}: {key} is missing"));
                    }
                }
            }
            "properties" => {
                for (key, schema) in asked.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        check(document, schema, value, &format!("{at}/{key}"), wrong);
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(*asked, Value::Bool(false));
                for key in value.as_object().into_iter().flatten().map(|(key, _)| key) {
                    if schema["properties"].get(key).is_none() {
                        wrong.push(format!("{at}: {key} is not in the document"));
                    }
                }
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, asked, value, &format!("{at}/{index}"), wrong);
                }
            }
            other => panic!("{other} is not known here"),
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    }
}

#[test]
fn the_check_finds_each_kind_of_fault() {
    let document = serde_json::json!({ "s": {
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": { "type": ["integer", "null"], "minimum": 0 },
            "b": { "type": "array", "items": { "type": "string", "enum": ["x"] } },
            "c": { "anyOf": [{ "type": "null" }, { "type": "boolean" }] },
            "d": { "type": "string", "format": "date-time" }
        }
    }});
    let schema = serde_json::json!({ "$ref": "#/s" });
    let faults = |value: Value| wrong(&document, &schema, &value).len();
    let time = "2026-01-01T00:00:00Z";
    for right in [r#"{"a":1}"#, r#"{"a":null,"b":["x"],"c":true}"#] {
        assert_eq!(faults(serde_json::from_str(right).unwrap()), 0, "{right}");
    }
    assert_eq!(faults(serde_json::json!({"a": 0, "d": time})), 0);
    for bad in [
        "{}",
        r#"{"a":-1}"#,
        r#"{"a":1.5}"#,
        r#"{"a":1,"z":1}"#,
        r#"{"a":1,"b":["y"]}"#,
        r#"{"a":1,"c":1}"#,
        r#"{"a":1,"d":"yesterday"}"#,
    ] {
        assert_eq!(faults(serde_json::from_str(bad).unwrap()), 1, "{bad}");
    }
    assert_eq!(faults(Value::from("x")), 2);
}
