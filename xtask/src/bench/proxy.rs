//! The front door against Debian's nginx: same backend, same load, rounds of both interleaved.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    Bench, median,
    server::{Server, free_address, wait_for_200},
    wrk,
};
use crate::setup::{self, Outcome};

pub(crate) fn run(bench: &mut Bench) -> Outcome {
    let folder = tempfile::tempdir_in(setup::target()).map_err(|e| e.to_string())?;
    let proxy = bench.bin.join("examples/proxy");
    let backend = Server::start(&proxy, &["backend", "ADDRESS"], &[], "/leaderboard")?;
    let target = backend.address.to_string();
    let ours = Server::start(&proxy, &["serve", "ADDRESS", &target], &[], "/leaderboard")?;
    let nginx = Nginx::start(folder.path(), &target)?;
    let (mut ratios, mut latency, mut rates, mut peers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let peer = wrk::round(&format!("http://{}/leaderboard", nginx.address), bench.round(), None)?;
        let round = wrk::round(&format!("http://{}/leaderboard", ours.address), bench.round(), None)?;
        ratios.push(round.per_second / peer.per_second);
        latency.push(round.p99_ms / peer.p99_ms);
        rates.push(round.per_second);
        peers.push(peer.per_second);
    }
    let (ratio, p99) = (median(&mut ratios), median(&mut latency));
    let measured = format!("{ratio:.2} x ({:.0}/s against {:.0}/s)", median(&mut rates), median(&mut peers));
    let what = "the proxy against Debian's nginx (`proxy_http_version 1.1`, `keepalive 64`, no access log), same backend, 64 connections";
    bench.row(what, measured, "≥ 0.9 x throughput", Some(ratio >= 0.9));
    bench.row("its p99 against nginx's", format!("{p99:.2} x"), "≤ 2 x", Some(p99 <= 2.0));
    let peak = ours.peak_mb();
    bench.row("peak memory of the bare proxy under that load", format!("{peak:.1} MB"), "≤ 40 MB", Some(peak <= 40.0));
    Ok(())
}

/// An nginx in a folder of its own, stopped by its own pid file.
struct Nginx<'a> {
    folder: &'a Path,
    address: std::net::SocketAddr,
}

impl Nginx<'_> {
    fn start<'a>(folder: &'a Path, backend: &str) -> Outcome<Nginx<'a>> {
        let address = free_address()?;
        let config = format!(
            "worker_processes auto;\npid {0}/nginx.pid;\nerror_log {0}/error.log;\nevents {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {0}/body;\n  proxy_temp_path {0}/proxy;\n  fastcgi_temp_path {0}/f;\n\
               uwsgi_temp_path {0}/u;\n  scgi_temp_path {0}/s;\n  keepalive_requests 100000000;\n  upstream game {{\n    server {backend};\n    keepalive 64;\n    keepalive_requests 100000000;\n  }}\n\
               server {{\n    listen {address};\n    location / {{\n      proxy_pass http://game;\n      proxy_http_version 1.1;\n\
                   proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n",
            folder.display()
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, config).map_err(|e| e.to_string())?;
        setup::run(command(folder).stderr(Stdio::null()))?;
        let nginx = Nginx { folder, address };
        wait_for_200(address, "/leaderboard", Duration::from_secs(10))?;
        Ok(nginx)
    }
}

impl Drop for Nginx<'_> {
    fn drop(&mut self) {
        let _ = command(self.folder).args(["-s", "quit"]).stderr(Stdio::null()).status();
    }
}

fn command(folder: &Path) -> Command {
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command
}
