//! Judge of JSON by a JSON Schema: the words of draft 2020-12 that the schemas of `docs/schema`
//! use. A word that it does not know fails the test, as does a key that the schema does not
//! describe.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use serde_json::Value;

/// Words that say nothing about a value.
const REMARKS: [&str; 4] = ["$schema", "$id", "$defs", "title"];

/// Lists everything by which a value breaks a schema.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    judge(schema, schema, value, "", &mut out);
    out
}

fn judge(whole: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    let schema = schema.as_object().unwrap();
    // `properties` describes all keys, though other readers may meet later ones.
    if let (Some(known), Some(object)) = (schema.get("properties"), value.as_object()) {
        for (key, value) in object {
            match known.get(key) {
                Some(known) => judge(whole, known, value, &format!("{at}/{key}"), out),
                None => out.push(format!("{at}/{key}: not in the schema")),
            }
        }
    }
    for (word, wanted) in schema {
        let good = match word.as_str() {
            "properties" => continue,
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    judge(whole, wanted, item, &format!("{at}/{index}"), out);
                }
                continue;
            }
            "$ref" => {
                let target = whole.pointer(&wanted.as_str().unwrap()[1..]).unwrap();
                judge(whole, target, value, at, out);
                continue;
            }
            "type" => match wanted {
                Value::Array(any) => any.iter().any(|one| is_a(value, one.as_str().unwrap())),
                one => is_a(value, one.as_str().unwrap()),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "required" => value.as_object().is_none_or(|object| {
                let all = wanted.as_array().unwrap();
                all.iter().all(|key| object.contains_key(key.as_str().unwrap()))
            }),
            // Patterns are for readers; only the characters of a cpulist and a letter are judged.
            "pattern" => value.as_str().is_none_or(|text| {
                let list = text.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '-');
                list || text.len() == 1
            }),
            word => REMARKS.contains(&word),
        };
        if !good {
            out.push(format!("{at}: {word} {wanted}: {value}"));
        }
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    }
}
