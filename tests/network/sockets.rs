//! Garbage and silence on the listening ports.

use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::world::World;

fn socket(address: &Multiaddr) -> (std::net::Ipv4Addr, u16) {
    let mut socket = (std::net::Ipv4Addr::LOCALHOST, 0);
    for part in address {
        match part {
            Protocol::Ip4(ip) => socket.0 = ip,
            Protocol::Tcp(port) => socket.1 = port,
            _ => {}
        }
    }
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_half_open_connections_disturb_nobody() {
    let mut world = World::new().await;
    let mut ports = vec![socket(&world.coordinator_address())];
    ports.extend(world.ada.node.listen_addresses().iter().map(socket));
    let mut open = Vec::new();
    for port in ports {
        for at in 0..40_u8 {
            let Ok(mut stream) = TcpStream::connect(port).await else { continue };
            let garbage: Vec<u8> = (0..=255).map(|byte: u8| byte.wrapping_mul(at)).collect();
            match at % 4 {
                // Nothing at all; the first half of a negotiation; noise; a web browser.
                0 => {}
                1 => drop(stream.write_all(b"\x13/multistream/1.").await),
                2 => drop(stream.write_all(&garbage).await),
                _ => drop(stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await),
            }
            open.push(stream);
        }
    }
    world.honest_members_still_talk().await;
    drop(open);
    world.honest_members_still_talk().await;
}
