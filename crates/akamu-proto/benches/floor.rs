//! What it costs to read a request and to write an answer.

#[path = "../../../benches/cpu_time.rs"]
mod cpu_time;

use std::fs;
use std::hint::black_box;
use std::path::Path;

use akamu_proto::{
    Algorithm, AuthorizationId, AuthorizationObject, AuthorizationStatus, ChallengeObject, ChallengeStatus,
    ChallengeType, FinalizeRequest, Identifier, Jwk, Jws, KeyAuthorization, NewOrderRequest, OrderObject, OrderStatus,
    Timestamp, Token, VerifyingKey,
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use criterion::Criterion;
use rustix::time::ClockId;
use serde_json::Value;

use crate::cpu_time::CpuTime;

const NOW: Timestamp = Timestamp::from_unix_secs(1_790_000_000);

fn main() {
    let mut criterion = CpuTime(ClockId::ProcessCPUTime).criterion();
    requests(&mut criterion);
    objects(&mut criterion);
    criterion.final_summary();
}

/// A request of vectors/jws.json that an account signed with this algorithm, and its key.
fn signed(algorithm: Algorithm) -> (String, Jwk) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/jws.json");
    let file: Value = serde_json::from_str(&fs::read_to_string(path).expect("the vectors")).expect("JSON");
    let cases = file.get("cases").and_then(Value::as_array).expect("cases");
    let found = cases.iter().find_map(|case| {
        let endpoint = case.pointer("/endpoint")?.as_str()?;
        if case.pointer("/expect/ok")? != true || endpoint != "kid" {
            return None;
        }
        let body = case.get("body")?.as_str()?;
        let jws = Jws::parse(body.as_bytes()).ok()?;
        let key = case.get("accounts")?.as_object()?.values().next()?.get("jwk")?.to_string();
        (jws.header().algorithm == algorithm).then(|| (body.to_owned(), Jwk::parse(&key).expect("a key")))
    });
    found.expect("the vectors have each algorithm")
}

fn requests(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("proto");
    for algorithm in Algorithm::ALL {
        let (body, jwk) = signed(*algorithm);
        let key = VerifyingKey::new(&jwk).expect("a key");
        let jws = Jws::parse(body.as_bytes()).expect("a JWS");
        let name = algorithm.as_str();
        group.bench_function(format!("parse {name}"), |it| it.iter(|| Jws::parse(black_box(body.as_bytes()))));
        group.bench_function(format!("verify {name}"), |it| it.iter(|| black_box(&jws).verify(&key)));
    }
    let (_, jwk) = signed(Algorithm::Es256);
    let token = Token::from_random([7; 32]);
    group.bench_function("key authorization", |it| {
        it.iter(|| KeyAuthorization::new(black_box(&token), &black_box(&jwk).thumbprint()));
    });
    group.finish();
}

fn objects(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("json");
    let base = "https://acme.example.com/acme";
    let new_order = r#"{"identifiers":[{"type":"dns","value":"www.example.com"}]}"#;
    group.bench_function("newOrder request", |it| {
        it.iter(|| {
            let request: NewOrderRequest = serde_json::from_str(black_box(new_order)).expect("a request");
            request.parse_identifiers().expect("a name")
        });
    });
    let finalize = format!(r#"{{"csr":"{}"}}"#, Base64UrlUnpadded::encode_string(&[7; 240]));
    group.bench_function("finalize request", |it| {
        it.iter(|| serde_json::from_str::<FinalizeRequest>(black_box(&finalize)).expect("a request"));
    });
    let id = AuthorizationId::new(NOW, [7; 10]).to_string();
    let order = OrderObject {
        status: OrderStatus::Valid,
        expires: NOW,
        identifiers: vec![Identifier::dns("www.example.com").expect("a name")],
        authorizations: vec![format!("{base}/authz/{id}")],
        finalize: format!("{base}/order/{id}/finalize"),
        certificate: Some(format!("{base}/cert/{id}")),
        error: None,
    };
    group.bench_function("order", |it| it.iter(|| serde_json::to_vec(black_box(&order)).expect("JSON")));
    let challenge = |challenge_type| ChallengeObject {
        url: format!("{base}/chall/{id}/{challenge_type}"),
        challenge_type,
        status: ChallengeStatus::Pending,
        token: Some(Token::from_random([7; 32])),
        persist: None,
        validated: None,
        error: None,
    };
    let authorization = AuthorizationObject {
        identifier: Identifier::dns("www.example.com").expect("a name"),
        status: AuthorizationStatus::Pending,
        expires: NOW,
        challenges: [ChallengeType::HTTP_01, ChallengeType::DNS_01, ChallengeType::TLS_ALPN_01]
            .into_iter()
            .map(challenge)
            .collect(),
        wildcard: false,
    };
    group.bench_function("authorization", |it| {
        it.iter(|| serde_json::to_vec(black_box(&authorization)).expect("JSON"));
    });
    let challenge = challenge(ChallengeType::HTTP_01);
    group.bench_function("challenge", |it| it.iter(|| serde_json::to_vec(black_box(&challenge)).expect("JSON")));
    group.finish();
}
