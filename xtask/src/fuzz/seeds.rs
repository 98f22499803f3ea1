//! The inputs that fuzzing begins with: what stands in the test vectors, and in fuzz/seeds where no vector has such.

#![expect(clippy::indexing_slicing, reason = "a JSON value that is not there reads as null")]

mod dns_answers;

use std::fs;
use std::path::Path;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};

use crate::failure::{Context, Failure};

/// A target, and octets for it.
type Seed = (&'static str, Vec<u8>);

/// Writes every seed into its target's directory under `corpus`. One that is there already is written over.
pub(super) fn write(root: &Path, corpus: &Path) -> Result<(), Failure> {
    let mut seeds = from_vectors(&root.join("vectors"))?;
    let csrs = root.join("fuzz/seeds/csr");
    let reading = || format!("cannot read {}", csrs.display());
    for entry in fs::read_dir(&csrs).context(reading)? {
        seeds.push(("csr", fs::read(entry.context(reading)?.path()).context(reading)?));
    }
    for (index, (target, octets)) in seeds.iter().enumerate() {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory).context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(format!("seed-{index}"));
        fs::write(&path, octets).context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn from_vectors(vectors: &Path) -> Result<Vec<Seed>, Failure> {
    let cases = |name: &str| -> Result<Vec<Value>, Failure> {
        let path = vectors.join(name);
        let text = fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        let file: Value = serde_json::from_str(&text).context(|| format!("cannot read {}", path.display()))?;
        Ok(list(&file["cases"]).to_vec())
    };
    let mut seeds: Vec<Seed> = OBJECTS.iter().map(|it| ("json_objects", it.as_bytes().to_vec())).collect();
    for case in cases("jws.json")? {
        seeds.extend(case.get("jwk").map(|jwk| ("json_objects", jwk.to_string().into_bytes())));
        let Some(body) = case["body"].as_str() else { continue };
        seeds.push(("jws", body.as_bytes().to_vec()));
        let jws: Value = serde_json::from_str(body).unwrap_or_default();
        for (member, target) in [("protected", "jws"), ("payload", "json_objects")] {
            let octets = jws[member].as_str().and_then(|it| Base64UrlUnpadded::decode_vec(it).ok());
            seeds.extend(octets.map(|it| (target, it)));
        }
    }
    for case in cases("identifiers.json")? {
        seeds.push(("json_objects", json!({ "identifiers": [case["identifier"]] }).to_string().into_bytes()));
        seeds.extend(case["identifier"]["value"].as_str().map(|it| ("json_objects", it.as_bytes().to_vec())));
    }
    for name in ["dns_persist_01.json", "dns_persist_01_hashed.json"] {
        for record in cases(name)?.iter().flat_map(|case| list(&case["txt"])) {
            let octets: Vec<u8> = list(record).iter().flat_map(character_string).collect();
            seeds.push(("problem", octets.clone()));
            seeds.push(("dns_persist_record", octets));
        }
    }
    for case in cases("dns_01.json")? {
        let records: Vec<Vec<_>> =
            list(&case["txt"]).iter().map(|it| list(it).iter().map(character_string).collect()).collect();
        seeds.extend(dns_answers::of_txt(&records).into_iter().map(|it| ("dns_answer", it)));
    }
    seeds.extend(dns_answers::others().into_iter().map(|it| ("dns_answer", it)));
    for case in cases("http_01.json")? {
        let octets: Vec<u8> = list(&case["response"]).iter().flat_map(base64).collect();
        // In one piece and then closed; in pieces and then reset; octet by octet and then silence.
        seeds.extend([0, 10, 7].map(|how| ("http_01_response", [&[how], &*octets].concat())));
    }
    for certificate in cases("tls_alpn_01.json")?.iter().flat_map(|case| list(&case["chain"])) {
        seeds.extend(certificate.as_str().and_then(decoded).map(|it| ("tls_alpn_01_certificate", it)));
    }
    Ok(seeds)
}

/// What no vector has.
const OBJECTS: &[&str] = &[
    r#"{"contact":["mailto:a@example.com"],"termsOfServiceAgreed":true,"onlyReturnExisting":false}"#,
    r#"{"status":"deactivated"}"#,
    r#"{"account":"https://acme.example.com/acme/account/42","oldKey":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#,
    r#"{"csr":"MIIB"}"#,
    r#"{"certificate":"MIIB","reason":1}"#,
    r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"x","status":400,"subproblems":[]}"#,
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    "2026-03-01T12:00:00.5Z",
    "4611686018427387904",
    "AAAAAAAAAAAAAAAAAAAAAA",
];

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn character_string(value: &Value) -> Vec<u8> {
    value.as_str().map_or_else(|| base64(value), |text| text.as_bytes().to_vec())
}

/// The octets of an object with `base64`, once, however often it is to be repeated.
fn base64(value: &Value) -> Vec<u8> {
    value["base64"].as_str().and_then(decoded).unwrap_or_default()
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::project_root;

    #[test]
    fn every_target_begins_with_something() {
        let directory = tempfile::tempdir().unwrap();
        write(&project_root(), directory.path()).unwrap();
        for (target, _) in crate::fuzz::TARGETS {
            let seeds = fs::read_dir(directory.path().join(target)).unwrap().count();
            assert!(seeds >= 8, "{target}: {seeds}");
        }
    }
}
