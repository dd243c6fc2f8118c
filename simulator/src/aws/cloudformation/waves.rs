//! Runs work in the order in which it depends on other work, as much at once as can be. The first that fails ends it; what is
//! under way then is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

use futures::stream::{FuturesUnordered, StreamExt};

/// Runs every name once all that it waits for have succeeded. A name that it waits for and that is not among them counts as
/// done. Gives the first failure.
pub(crate) async fn run<F, Work>(waits: &BTreeMap<String, BTreeSet<String>>, work: F) -> Result<(), String>
where
    F: Fn(String) -> Work,
    Work: Future<Output = Result<(), String>>,
{
    let mut left: BTreeMap<&String, BTreeSet<&String>> =
        waits.iter().map(|(name, on)| (name, on.iter().filter(|one| waits.contains_key(*one)).collect())).collect();
    let mut running = FuturesUnordered::new();
    loop {
        let free: Vec<&String> = left.iter().filter(|(_, on)| on.is_empty()).map(|(name, _)| *name).collect();
        for name in free {
            left.remove(name);
            let work = work(name.clone());
            running.push(async move { (name, work.await) });
        }
        match running.next().await {
            Some((name, Ok(()))) => left.values_mut().for_each(|on| on.retain(|one| *one != name)),
            Some((_, Err(why))) => return Err(why),
            None => return Ok(()),
        }
    }
}

/// The same names the other way round: each waits for those that wait for it.
pub(crate) fn reversed(waits: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let mut back: BTreeMap<String, BTreeSet<String>> =
        waits.keys().map(|name| (name.clone(), BTreeSet::new())).collect();
    for (name, on) in waits {
        for one in on {
            if let Some(set) = back.get_mut(one) {
                set.insert(name.clone());
            }
        }
    }
    back
}
