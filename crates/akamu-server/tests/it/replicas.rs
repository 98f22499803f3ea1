//! Several servers on one PostgreSQL.

use crate::database::Database;
use crate::postgres_database::PostgresDatabase;
use crate::server::Place;

#[tokio::test]
async fn of_three_first_starts_at_once_one_comes_up_and_two_say_what_they_need() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let first = Place::on(&database);
    let places = [first.clone(), first.replica_without_keys(), first.replica_without_keys()];
    let [a, b, c] = places.map(Place::try_start);
    let (a, b, c) = tokio::join!(a, b, c);
    let (up, refused): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
    assert_eq!((up.len(), refused.len()), (1, 2));
    for line in refused.into_iter().map(|it| it.err().unwrap().to_string()) {
        // One that came as soon as the first has made keys for nothing; one that came later made none.
        let soon = line.starts_with("the issuing certificate has SHA-256 ")
            && line.contains(", and the database expects ")
            && line.contains("give this server the same ca.key_file and ca.cert_file");
        let later = line.contains("/keys: the database has an issuer, and its keys are not here; ")
            && line.contains("copy the first server's");
        assert!((soon || later) && !line.contains('\n'), "{line}");
    }
    // Given the first one's keys, another comes up.
    let up = up.into_iter().next().unwrap().unwrap();
    let second = up.place.replica().start().await;
    second.registered().await.new_order(&["a.test"]).await.expect(201);
}
