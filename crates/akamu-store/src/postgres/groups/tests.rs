use std::path::Path;
use std::sync::mpsc;

use diesel::RunQueryDsl as _;
use tokio::task::yield_now;

use super::super::Servers;
use super::*;
use crate::StoreOptions;

#[path = "../../../tests/it/postgres_database.rs"]
mod postgres_database;

#[tokio::test]
async fn the_end_of_a_transaction_that_has_failed_is_taken_for_no_commit() {
    let Some(database) = postgres_database::PostgresDatabase::new() else { return };
    let options = StoreOptions::parse(&database.url(), Path::new("/")).unwrap().max_connections(1);
    let servers = Servers::new(&database.url(), &options);
    let opened = servers.establish().unwrap();
    let cluster = Arc::new(Cluster::new(servers, opened, Observer::default()).unwrap());
    cluster.read("make", |it| it.batch_execute("CREATE TABLE written ()")).await.unwrap();

    let (release, released) = mpsc::channel::<()>();
    let begin = |name, sql: &'static str, is_careless: bool| {
        let cluster = cluster.clone();
        let run = move |it: &mut AnyConnection, _| {
            it.batch_execute(sql).or_else(|error| is_careless.then_some(()).ok_or(error))
        };
        tokio::spawn(async move { cluster.run_together(name, run).await })
    };
    let wait = move |_: &mut AnyConnection| {
        let _ = released.recv();
        Ok(())
    };
    let busy = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.read("wait", wait).await }
    });
    yield_now().await;
    let good = begin("good", "INSERT INTO written DEFAULT VALUES", false);
    let careless = begin("careless", "SELECT 1 / 0", true);
    yield_now().await;
    drop(release);
    for task in [busy, good, careless] {
        task.await.unwrap().unwrap();
    }
    let delete = |it: &mut AnyConnection| on!(it, |it| diesel::sql_query("DELETE FROM written").execute(it));
    assert_eq!(cluster.read("delete", delete).await.unwrap(), 1);
}
