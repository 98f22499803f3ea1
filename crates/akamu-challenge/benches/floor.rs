//! What each validator costs a busy server, its sockets and the questions to DNS included: as many run at once as keep it
//! from waiting. Who answers them, on loopback, does so on a thread that is not counted.

#[path = "../../../benches/cpu_time.rs"]
mod cpu_time;
#[expect(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the tests' own, of which this needs a part"
)]
#[path = "../tests/it/dns/server.rs"]
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::{
    AccountHashPrefix, AddressPolicy, Deadline, Dns01, DnsClient, DnsPersist01, Http01, Probe, SystemClock,
    TcpConnector, TlsAlpn01, ValidationRequest, Validator,
};
use akamu_proto::{AccountUri, DnsName, Identifier, KeyAuthorization, Thumbprint, Token};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use criterion::Criterion;
use futures_util::future::join_all;
use hickory_server::proto::rr::RecordType;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustix::time::ClockId;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use crate::cpu_time::CpuTime;
use crate::server::{Answer, TestServer, address, record, txt};

const CLOCK: CpuTime = CpuTime(ClockId::ThreadCPUTime);

/// As many validations as run at once.
const AT_ONCE: u64 = 16;

const NAME: &str = "www.example.com";
const ACCOUNT: &str = "https://ca.example/acme/account/42";

fn main() {
    let mut criterion = CLOCK.criterion();
    let peers = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = Identifier::dns(NAME).expect("a name");
    let thumbprint = Thumbprint::of_canonical_jwk("{}");
    let key_authorization = KeyAuthorization::new(&Token::from_random([7; 32]), &thumbprint);
    let digest = Base64UrlUnpadded::encode_string(&Sha256::digest(key_authorization.as_str()));
    let (dns_01, dns_persist_01) = (format!("_acme-challenge.{NAME}"), format!("_validation-persist.{NAME}"));
    let persistent = format!("ca.example; accounturi={ACCOUNT}");
    let texts = |owner: &str, text: &str| Answer::records(vec![record(owner, txt(&[text.as_bytes()]))]);
    let names = peers.block_on(TestServer::start([
        (NAME, RecordType::A, Answer::records(vec![record(NAME, address("127.0.0.1"))])),
        (NAME, RecordType::AAAA, Answer::records(Vec::new())),
        (dns_01.as_str(), RecordType::TXT, texts(&dns_01, &digest)),
        (dns_persist_01.as_str(), RecordType::TXT, texts(&dns_persist_01, &persistent)),
    ]));
    let dns = || DnsClient::new([names.address]);
    let loopback = AddressPolicy::default().allow(["127.0.0.1/32".parse().expect("a network")]);
    let probe = || Probe::new(dns(), TcpConnector, SystemClock, loopback.clone());
    let with_token = ValidationRequest::with_key_authorization(name.clone(), key_authorization.clone());

    let http = serve_http(&peers, key_authorization.as_str());
    measure(&mut criterion, &runtime, &Http01::new(probe(), http.port()), &with_token);
    let tls = serve_tls(&peers, key_authorization.as_str());
    measure(&mut criterion, &runtime, &TlsAlpn01::new(probe(), tls.port()), &with_token);
    measure(&mut criterion, &runtime, &Dns01::new(dns(), SystemClock), &with_token);
    let issuer = DnsName::parse("ca.example").expect("a name");
    let persist = DnsPersist01::new(dns(), SystemClock, [issuer], AccountHashPrefix::under("https://ca.example"));
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
    let validate = async || {
        let report = validator.validate(request, Deadline::after(Duration::from_secs(10))).await;
        assert!(report.is_valid(), "{report}");
    };
    let mut group = criterion.benchmark_group("challenge");
    group.bench_function(validator.method().as_str(), |it| {
        it.iter_custom(|count| {
            let lanes = AT_ONCE.min(count);
            let lane = async |lane| {
                for _ in (lane..count).step_by(usize::try_from(lanes).expect("few")) {
                    validate().await;
                }
            };
            let start = CLOCK.now();
            runtime.block_on(join_all((0..lanes).map(lane)));
            CLOCK.now().saturating_sub(start)
        });
    });
    group.finish();
}

/// Hands each connection to a task of the peers.
fn serve<T>(peers: &Runtime, serve: impl Fn(TcpStream) -> T + Send + 'static) -> SocketAddr
where
    T: Future<Output = ()> + Send + 'static,
{
    let listener = peers.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(peers.spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            drop(tokio::spawn(serve(peer)));
        }
    }));
    address
}

fn serve_http(peers: &Runtime, body: &str) -> SocketAddr {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let answer: Arc<str> = answer.into();
    serve(peers, move |mut peer| {
        let answer = Arc::clone(&answer);
        async move {
            // The request is sent whole.
            let mut request = [0; 4_096];
            if peer.read(&mut request).await.is_ok() {
                let _ = peer.write_all(answer.as_bytes()).await;
            }
        }
    })
}

fn serve_tls(peers: &Runtime, key_authorization: &str) -> SocketAddr {
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
    serve(peers, move |peer| {
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(peer).await;
        }
    })
}
