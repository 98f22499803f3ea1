//! instant-acme, a client that others wrote, against a real server.

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};

use crate::database::Database;
use crate::issuance::verified_names;

#[tokio::test]
async fn instant_acme_gets_a_certificate_for_a_name_and_an_address() {
    let server = Database::Sqlite.server().await;
    server.name_here("instant.test");
    let root = server.root_pem();
    let directory = server.running.directory_url();
    let new_account = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    let (account, _) = Account::builder_with_root(&root).unwrap().create(&new_account, directory, None).await.unwrap();
    let identifiers = [Identifier::Dns("instant.test".to_owned()), Identifier::Ip("127.0.0.1".parse().unwrap())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.unwrap();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        assert_eq!(authorization.status, AuthorizationStatus::Pending);
        let mut challenge = authorization.challenge(ChallengeType::Http01).unwrap();
        server.answer_http_01(&challenge.token, challenge.key_authorization().as_str());
        challenge.set_ready().await.unwrap();
    }
    let status = order.poll_ready(&RetryPolicy::default()).await.unwrap();
    assert_eq!(status, OrderStatus::Ready);
    order.finalize().await.unwrap();
    let chain = order.poll_certificate(&RetryPolicy::default()).await.unwrap();
    assert_eq!(verified_names(&server, &chain), ["127.0.0.1", "instant.test"]);
}
