//! Policies about data: who may write to it, and from where it can be reached.

use super::{AWS_AND_AZURE, AZURE, EVERYWHERE, Policy};
use crate::{
    Cloud, Spec,
    environment::{Finding, Severity},
    spec::{Journal, Snapshot, StorageKind, Strategy, Writer},
};

pub(super) const SINGLE_WRITER_SCALED: Policy = Policy {
    code: "DB001",
    title: "more than one copy of a service whose store has one writer",
    severity: Severity::Error,
    waivable: false,
    clouds: EVERYWHERE,
    what: "`[scale] max` is above 1 while `[storage] writer` is \"exclusive\" or \"protocol\".",
    why: "Each copy would open the same database for writing. On a network share that ends in `database is locked`, or \
          in a database that is corrupt. The protocol lets two releases overlap while one hands over to the next; it \
          does not share the work among copies.",
    fix: "Set `max = 1`. To run more copies, keep the data where any number of processes may write, and say \
          `writer = \"many\"`.",
    wrong: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"exclusive\"\n\n[scale]\nmax = 2",
    right: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"exclusive\"\n\n[scale]\nmax = 1",
    check: |spec, found| {
        let Some(storage) = &spec.storage else { return };
        if storage.writer != Writer::Many && spec.scale.max > 1 {
            let message = format!("{} copies would write to a store that takes one writer", spec.scale.max);
            found.push(Finding::at("scale.max", message).else_at("scale.min").reads(WRITER).suggest("1"));
        }
    },
};

const WRITER: &[&str] = &["storage.writer", "storage.kind"];

pub(super) const OVERLAP_WITHOUT_PROTOCOL: Policy = Policy {
    code: "DB002",
    title: "releases that share traffic over a store that takes one process",
    severity: Severity::Error,
    waivable: false,
    clouds: EVERYWHERE,
    what: "The strategy is canary, linear or rolling while `[storage] writer` is \"exclusive\".",
    why: "These strategies have the old and the new release serve at the same time, so both would have the store open. \
          A store that takes one process can only be handed over whole: blue-green swaps the releases where requests \
          can be held meanwhile, and stops the old one first where they can't.",
    fix: "Use `strategy = \"blue-green\"`, \"recreate\" or \"all-at-once\". Where the service hands its writer over \
          by itself, say `writer = \"protocol\"` with its `storage_protocol`.",
    wrong: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"exclusive\"\n\n[rollout]\nstrategy = \"canary\"",
    right: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"protocol\"\nstorage_protocol = 1\n\n\
            [rollout]\nstrategy = \"canary\"",
    check: |spec, found| {
        let exclusive = spec.storage.as_ref().is_some_and(|storage| storage.writer == Writer::Exclusive);
        let overlaps = matches!(
            spec.rollout.strategy,
            Strategy::Canary { .. } | Strategy::Linear { .. } | Strategy::Rolling { .. }
        );
        if exclusive && overlaps {
            let name = spec.rollout.strategy.name();
            let message = format!("{name} has two releases write to a store that takes one process");
            let finding = Finding::at("rollout.strategy", message).reads(WRITER).suggest("\"blue-green\"");
            found.push(finding.help("or `[storage] writer = \"protocol\"`, if the service hands its writer over"));
        }
    },
};

pub(super) const WAL_ON_A_SHARE: Policy = Policy {
    code: "DB003",
    title: "a SQLite journal that does not work on a network share",
    severity: Severity::Error,
    waivable: false,
    clouds: AWS_AND_AZURE,
    what: "`[storage] journal` is \"wal\", which needs shared memory, on a cloud whose storage is a network share; or \
           \"rollback\" on an SMB share.",
    why: "Write-ahead logging keeps its index in memory that is shared through the file system, which neither EFS nor \
          Azure Files can give: readers on another machine see a corrupt database. In exclusive locking mode SQLite \
          keeps the index in its own memory. On SMB, SQLite's own locks fail with `database is locked`, so a rollback \
          journal does not work there either.",
    fix: "Have the service open its database with `PRAGMA locking_mode = EXCLUSIVE` before `PRAGMA journal_mode = \
          WAL`, and leave `journal` out or say `journal = \"exclusive-wal\"`.",
    wrong: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\njournal = \"wal\"",
    right: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\njournal = \"exclusive-wal\"",
    check: |spec, found| {
        let Some(storage) = spec.storage.as_ref().filter(|storage| storage.kind == StorageKind::Sqlite) else { return };
        let message = match (storage.journal, spec.cloud) {
            (Journal::Wal, cloud) => format!("a shared write-ahead log corrupts a database on {}", share(cloud, spec)),
            (Journal::Rollback, Cloud::Azure) if spec.azure.share == "smb" => {
                "a rollback journal can't lock a database on an SMB share".to_owned()
            }
            _ => return,
        };
        found.push(Finding::at("storage.journal", message).reads(WRITER).suggest("\"exclusive-wal\""));
    },
};

fn share(cloud: Cloud, spec: &Spec) -> &'static str {
    match cloud {
        Cloud::Azure if spec.azure.share == "nfs" => "an NFS share of Azure Files",
        Cloud::Azure => "an SMB share of Azure Files",
        _ => "EFS",
    }
}

pub(super) const CLOSED_ACCOUNT: Policy = Policy {
    code: "DB007",
    title: "a storage account closed to the network that it must be mounted from",
    severity: Severity::Error,
    waivable: false,
    clouds: AZURE,
    what: "`[cloud.azure] public_network_access` is false without `private_endpoint`, while the service has storage.",
    why: "The share is mounted by the Container Apps environment. With the account's public network closed and no \
          private endpoint in the environment's network, the mount fails, and every revision stays unready with \
          `VolumeMountFailure`.",
    fix: "Set `private_endpoint = true`, or leave the public network open: the account still refuses whoever has no \
          key to it.",
    wrong: "[storage]\nkind = \"files\"\nmount = \"/data\"\n\n[cloud.azure]\npublic_network_access = false",
    right: "[storage]\nkind = \"files\"\nmount = \"/data\"\n\n[cloud.azure]\npublic_network_access = false\n\
            private_endpoint = true",
    check: |spec, found| {
        let mounted = spec.storage.as_ref().is_some_and(|storage| storage.kind != StorageKind::Postgres);
        if mounted && !spec.azure.public_network_access && !spec.azure.private_endpoint {
            let message = "the environment could not mount the share: the storage account is closed to its network";
            let finding = Finding::at("cloud.azure.public_network_access", message);
            found.push(
                finding.reads(&["cloud.azure.private_endpoint", "storage.kind"]).help("set private_endpoint = true"),
            );
        }
    },
};

pub(super) const MANY_WRITERS_ON_SQLITE: Policy = Policy {
    code: "DB013",
    title: "any number of writers to one SQLite database",
    severity: Severity::Error,
    waivable: false,
    clouds: EVERYWHERE,
    what: "`[storage]` says `kind = \"sqlite\"` and `writer = \"many\"`.",
    why: "SQLite has one writer at a time, and holds others off with locks that a network share does not keep.",
    fix: "Say `writer = \"exclusive\"`, or \"protocol\" where the service hands its writer over.",
    wrong: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"many\"",
    right: "[storage]\nkind = \"files\"\nmount = \"/data\"\nwriter = \"many\"",
    check: |spec, found| {
        let many = |s: &crate::spec::Storage| s.kind == StorageKind::Sqlite && s.writer == Writer::Many;
        if spec.storage.as_ref().is_some_and(many) {
            let finding = Finding::at("storage.writer", "a SQLite database has one writer");
            found.push(finding.reads(WRITER).suggest("\"exclusive\""));
        }
    },
};

pub(super) const COPY_WITHOUT_COMMAND: Policy = Policy {
    code: "DB017",
    title: "a copy before each release that nothing takes",
    severity: Severity::Warning,
    waivable: false,
    clouds: EVERYWHERE,
    what: "`[storage] snapshot` is \"before-release\", and there is no `backup` command.",
    why: "dbird does not know how to copy a service's data while it is being written: the service's own command does. \
          Without one, releases begin without a copy, and there is nothing to go back to when one damages data.",
    fix: "Give the command that copies the data to `{file}`, and the one that brings it back; or say \
          `snapshot = \"none\"`.",
    wrong: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"exclusive\"\nsnapshot = \"before-release\"",
    right: "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"exclusive\"\nsnapshot = \"before-release\"\n\
            backup = [\"my-service\", \"backup\", \"{file}\"]\nrestore = [\"my-service\", \"restore\", \"{file}\"]",
    check: |spec, found| {
        let Some(storage) = &spec.storage else { return };
        if storage.snapshot == Snapshot::BeforeRelease && storage.backup.is_empty() {
            let message = "nothing copies the data before a release: there is no `backup` command";
            let finding = Finding::at("storage.snapshot", message).reads(&["storage.backup"]);
            found.push(finding.help("backup = [\"my-service\", \"backup\", \"{file}\"], or snapshot = \"none\""));
        }
    },
};
