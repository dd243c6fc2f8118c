//! TCP ports of this machine. It decides which free one a task gets and finds out who holds one that is taken; it never
//! keeps a port open.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use socket2::{Domain, Socket, Type};

/// Ports below the kernel's own range: an outgoing connection can't take one between choosing and listening.
const CHOICE: Range<u16> = 18_000..32_000;

/// Connections that wait to be accepted.
const QUEUE: i32 = 4096;

/// A port of 127.0.0.1 that nobody listens on. Two calls of one process give different ones; another process may be
/// quicker, so whoever is given the port must be ready to fail and be given another.
pub fn free() -> Option<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = choice(fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().as_deref());
    let size = u32::from(range.end - range.start);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_micros());
    let _ =
        NEXT.compare_exchange(0, (seed ^ std::process::id().rotate_left(9)) | 1, Ordering::Relaxed, Ordering::Relaxed);
    (0..size).find_map(|_| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % size;
        let port = range.start + u16::try_from(step).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}

/// Our range where it lies outside the kernel's, else what is free below the kernel's, or all of it.
fn choice(kernel: Option<&str>) -> Range<u16> {
    let mut bounds = kernel.unwrap_or_default().split_ascii_whitespace().filter_map(|n| n.parse::<u16>().ok());
    let (Some(low), Some(high)) = (bounds.next(), bounds.next()) else { return CHOICE };
    if high < CHOICE.start || low >= CHOICE.end {
        CHOICE
    } else if low > 12_000 {
        10_000..low
    } else {
        CHOICE
    }
}

/// A listening socket whose queue holds as many connections as the kernel allows, up to 4,096: where the one who accepts
/// is away for a moment, clients wait there.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier listener that linger are no obstacle; another listener is.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(QUEUE)?;
    Ok(socket.into())
}

/// Who listens on an address, as far as this user may know: `drafty-bird (pid 4711)`.
pub fn holder(address: SocketAddr) -> Option<String> {
    let inodes: HashSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|target| target.to_str().is_some_and(|t| inodes.contains(t)))
        });
        if holds {
            return Some(describe(pid));
        }
    }
    None
}

/// The inodes of the sockets in state LISTEN (0A) on a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let wanted = fields.get(1)?.ends_with(&port) && *fields.get(3)? == "0A";
        wanted.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    table.lines().filter_map(row).collect()
}

fn describe(pid: u32) -> String {
    let line = one_line(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
    if line.is_empty() { format!("pid {pid}") } else { format!("pid {pid}: {line}") }
}

/// The beginning of a command line, as /proc has it. It may hold whole scripts.
fn one_line(command: &[u8]) -> String {
    let words = String::from_utf8_lossy(command);
    let words = words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.take(8).collect::<Vec<_>>().join(" ").chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_free_differ_and_are_not_the_kernels() {
        let ports: Vec<u16> = (0..20).map(|_| free().unwrap()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 20);
        for port in ports {
            assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        }
        assert_eq!(choice(Some("32768\t60999\n")), CHOICE);
        assert_eq!(choice(Some("15000 65535")), 10_000..15_000);
        assert_eq!(choice(Some("1024 65535")), CHOICE);
        assert_eq!(choice(None), CHOICE);
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let holder = holder(address).unwrap();
        assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
        drop(listener);
        assert_eq!(super::holder(address), None);
        for (command, line) in [
            (&b"nginx\0-c\0/etc/x y.conf\0"[..], "nginx -c /etc/x y.conf"),
            (b"sh\0-c\0\n  while true\r\n  do\x1b[31m nc; done", "sh -c while true do [31m nc; done"),
            (b"", ""),
            (b"a b c d e f g h i j", "a b c d e f g h"),
        ] {
            assert_eq!(one_line(command), line);
        }
    }
}
