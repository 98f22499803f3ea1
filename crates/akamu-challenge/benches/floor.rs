//! What each validator costs itself, over a network in memory: who answers it does so on threads that are not counted.

#[path = "../../../benches/cpu_time.rs"]
mod cpu_time;

use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNames, TestNetwork, TestPeer};
use akamu_challenge::{
    AccountHashPrefix, AddressPolicy, Deadline, Dns01, DnsPersist01, Http01, Probe, TlsAlpn01, TxtRecord,
    ValidationRequest, Validator,
};
use akamu_proto::{AccountUri, DnsName, Identifier, KeyAuthorization, Thumbprint, Timestamp, Token};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use criterion::Criterion;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustix::time::ClockId;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_rustls::TlsAcceptor;

use crate::cpu_time::CpuTime;

const NAME: &str = "www.example.com";
const ADDRESS: &str = "10.0.0.80";
const ACCOUNT: &str = "https://ca.example/acme/account/42";

fn main() {
    let mut criterion = CpuTime(ClockId::ThreadCPUTime).criterion();
    let peers = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let names = TestNames::default();
    let network = TestNetwork::default();
    let clock = TestClock::at(Timestamp::from_unix_secs(1_790_000_000));
    names.set_addresses(NAME, Ok(vec![ADDRESS.parse().expect("an address")]));
    let probe = || Probe::new(names.clone(), network.clone(), clock.clone(), AddressPolicy::default());
    let name = Identifier::dns(NAME).expect("a name");
    let thumbprint = Thumbprint::of_canonical_jwk("{}");
    let key_authorization = KeyAuthorization::new(&Token::from_random([7; 32]), &thumbprint);
    let with_token = ValidationRequest::with_key_authorization(name.clone(), key_authorization.clone());

    serve_http(&network, peers.handle(), key_authorization.as_str());
    measure(&mut criterion, &runtime, &Http01::new(probe(), 80), &with_token);
    serve_tls(&network, peers.handle(), key_authorization.as_str());
    measure(&mut criterion, &runtime, &TlsAlpn01::new(probe(), 443), &with_token);

    let txt = |value: &str| Ok(vec![TxtRecord::new([value.to_owned()])]);
    let digest = Base64UrlUnpadded::encode_string(&Sha256::digest(key_authorization.as_str()));
    names.set_txt(&format!("_acme-challenge.{NAME}"), txt(&digest));
    measure(&mut criterion, &runtime, &Dns01::new(names.clone(), clock.clone()), &with_token);

    let issuer = DnsName::parse("ca.example").expect("a name");
    let prefix = AccountHashPrefix::under("https://ca.example");
    let persist = DnsPersist01::new(names.clone(), clock.clone(), [issuer], prefix);
    names.set_txt(&format!("_validation-persist.{NAME}"), txt(&format!("ca.example; accounturi={ACCOUNT}")));
    let with_account = ValidationRequest::with_account(name, AccountUri::new(ACCOUNT), vec![thumbprint]);
    measure(&mut criterion, &runtime, &persist, &with_account);
    criterion.final_summary();
}

fn measure(
    criterion: &mut Criterion<CpuTime>,
    runtime: &Runtime,
    validator: &dyn Validator,
    request: &ValidationRequest,
) {
    let mut group = criterion.benchmark_group("challenge");
    group.bench_function(validator.method().as_str(), |it| {
        it.iter(|| {
            let deadline = || Deadline::after(Duration::from_secs(10));
            let report = runtime.block_on(async { validator.validate(request, deadline()).await });
            assert!(report.is_valid(), "{report}");
        });
    });
    group.finish();
}

/// Hands each connection to a thread of the peers.
fn serve<F, T>(network: &TestNetwork, port: u16, peers: &Handle, serve: F)
where
    F: Fn(TestPeer) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let peers = peers.clone();
    let address = format!("{ADDRESS}:{port}").parse().expect("an address");
    network.serve(address, move |peer| {
        drop(peers.spawn(serve(peer)));
        async {}
    });
}

fn serve_http(network: &TestNetwork, peers: &Handle, body: &str) {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let answer: Arc<str> = answer.into();
    serve(network, 80, peers, move |mut peer| {
        let answer = Arc::clone(&answer);
        async move {
            // The request is sent whole.
            let mut request = [0; 4_096];
            if peer.read(&mut request).await.is_ok() {
                let _ = peer.write_all(answer.as_bytes()).await;
            }
        }
    });
}

fn serve_tls(network: &TestNetwork, peers: &Handle, key_authorization: &str) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&Sha256::digest(key_authorization))];
    let certificate = params.self_signed(&key).expect("a certificate").der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(default_provider());
    // `with_single_cert` refuses a certificate with a critical extension that webpki does not know.
    let key = provider.key_provider.load_private_key(key).expect("a key");
    let certified = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certified));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(network, 443, peers, move |peer| {
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(peer).await;
        }
    });
}
