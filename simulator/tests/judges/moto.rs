//! The calls that dbird made, made again to moto, which has no stack of ours: it takes them, and keeps what they say.

use crate::{
    account::Account,
    programs::{Server, agrees},
};

#[test]
#[ignore = "needs moto and boto3, which `cargo xtask test` installs"]
fn moto_keeps_what_dbird_says() {
    let account = Account::start("moto");
    account.ok(&["deploy", "-y"]);
    account.ok(&["deploy", "-y", "--set", "env.GREETING=two"]);
    account.ok(&["logs"]);
    let server = Server::start("moto_server", |command, port| {
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    });
    agrees("again.py", |command| {
        command.arg(server.url()).arg(&account.record);
    });
}
