//! A balancer of TCP connections: each goes to the next replica that takes it, without stickiness.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::failure::Failure;
use crate::responder::listen;

/// Balances over these ports of loopback, until the runtime ends.
pub(super) fn start(port: u16, replicas: Vec<u16>) -> Result<(), Failure> {
    let listener = listen((Ipv4Addr::LOCALHOST, port).into(), 1_024)?;
    tokio::spawn(balance(listener, Arc::new(replicas)));
    Ok(())
}

async fn balance(listener: TcpListener, replicas: Arc<Vec<u16>>) {
    let turn = Arc::new(AtomicUsize::new(0));
    while let Ok((mut client, _)) = listener.accept().await {
        let (replicas, turn) = (Arc::clone(&replicas), Arc::clone(&turn));
        tokio::spawn(async move {
            let first = turn.fetch_add(1, Ordering::Relaxed) % replicas.len();
            for port in replicas.iter().cycle().skip(first).take(replicas.len()) {
                if let Ok(mut replica) = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await {
                    // Either side may break off: that is what is tried here.
                    let _ = copy_bidirectional(&mut client, &mut replica).await;
                    return;
                }
            }
        });
    }
}
