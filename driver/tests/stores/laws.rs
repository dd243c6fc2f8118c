//! What every kind of store must do, in one table. It knows nothing of what is written there.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dbird_driver::{Series, Store, StoreError, TAKEOVER_MS};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use crate::Kind;

/// A secret that nothing may print; also valid base64.
pub(crate) const CANARY: &str = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5";

type Law = for<'a> fn(&'a Kind, &'a str) -> BoxFuture<'a, ()>;

const LAWS: [(&str, Law); 9] = [
    ("nothing is there at first", |kind, here| nothing(kind, here).boxed()),
    ("a number is given once", |kind, here| once(kind, here).boxed()),
    ("the last are found among many", |kind, here| dense(kind, here).boxed()),
    ("the last are found far apart", |kind, here| sparse(kind, here).boxed()),
    ("of many who create a number one wins", |kind, here| race(kind, here).boxed()),
    ("what is large comes back whole", |kind, here| large(kind, here).boxed()),
    ("environments are apart and keys plain", |kind, here| apart(kind, here).boxed()),
    ("a stranger is refused", |kind, _| unknown(kind).boxed()),
    ("a missing place is named", |kind, _| nowhere(kind).boxed()),
];

/// Checks all laws on one kind of store.
pub(crate) async fn hold(kind: &Kind) {
    for (n, (law, check)) in LAWS.iter().enumerate() {
        let held = AssertUnwindSafe(check(kind, &format!("law{n}"))).catch_unwind().await;
        assert!(held.is_ok(), "{}: {law}", kind.name);
    }
}

async fn nothing(kind: &Kind, here: &str) {
    let store = (kind.open)(here);
    assert_eq!(store.read(Series::Journal, 1).await.unwrap(), None);
    assert_eq!(store.last(Series::Journal, 3).await.unwrap(), Vec::<u64>::new());
    // Looking makes nothing.
    assert_eq!(store.last(Series::Journal, 3).await.unwrap(), Vec::<u64>::new());
}

async fn once(kind: &Kind, here: &str) {
    let store = (kind.open)(here);
    for n in [1, 2, 499, 500, 12_345, u64::from(u32::MAX)] {
        assert!(store.create(Series::Lease, n, n.to_string().into_bytes()).await.unwrap(), "{n}");
        assert!(!store.create(Series::Lease, n, b"other".to_vec()).await.unwrap(), "{n} is taken");
        assert!(!(kind.open)(here).create(Series::Lease, n, b"another".to_vec()).await.unwrap(), "{n} is taken");
        assert_eq!(store.read(Series::Lease, n).await.unwrap(), Some(n.to_string().into_bytes()));
    }
    assert_eq!(store.read(Series::Journal, 1).await.unwrap(), None, "series are apart");
    assert!(store.create(Series::Journal, 1, Vec::new()).await.unwrap());
    assert_eq!(store.read(Series::Journal, 1).await.unwrap(), Some(Vec::new()));
}

async fn fill(store: &Arc<dyn Store>, series: Series, numbers: impl Iterator<Item = u64>) {
    let made = stream::iter(numbers).map(|n| store.create(series, n, b"{}".to_vec())).buffer_unordered(16);
    assert!(made.all(async |made| made.unwrap()).await);
}

async fn dense(kind: &Kind, here: &str) {
    let store = (kind.open)(here);
    // Backwards: the order of writing means nothing.
    fill(&store, Series::Journal, (1..=1_003).rev()).await;
    assert_eq!(store.last(Series::Journal, 1).await.unwrap(), [1_003]);
    // Over one, two and three sub-folders.
    for count in [2, 4, 5, 504, 505, 1_002, 1_003, 5_000] {
        let found = store.last(Series::Journal, count).await.unwrap();
        let first = 1_004 - (count as u64).min(1_003);
        assert!(found.iter().copied().eq(first..=1_003), "{count}: {:?}", found.len());
    }
}

async fn sparse(kind: &Kind, here: &str) {
    let store = (kind.open)(here);
    // More sub-folders than any server lists in one answer.
    fill(&store, Series::Lease, (0..1_003).map(|n| n * 500 + 7)).await;
    assert_eq!(store.last(Series::Lease, 1).await.unwrap(), [501_007]);
    assert_eq!(store.last(Series::Lease, 3).await.unwrap(), [500_007, 500_507, 501_007]);
}

async fn race(kind: &Kind, here: &str) {
    const CREATORS: usize = 32;
    let won = Arc::new(AtomicUsize::new(0));
    let winner = Arc::new(AtomicUsize::new(usize::MAX));
    let begin = Arc::new(tokio::sync::Barrier::new(CREATORS));
    let tries: Vec<_> = (0..CREATORS)
        .map(|n| {
            let (store, won, winner, begin) = ((kind.open)(here), won.clone(), winner.clone(), begin.clone());
            tokio::spawn(async move {
                begin.wait().await;
                if store.create(Series::Lease, 1, n.to_string().into_bytes()).await.unwrap() {
                    won.fetch_add(1, Ordering::SeqCst);
                    winner.store(n, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for done in tries {
        done.await.unwrap();
    }
    assert_eq!(won.load(Ordering::SeqCst), 1);
    let stands = (kind.open)(here).read(Series::Lease, 1).await.unwrap().unwrap();
    assert_eq!(stands, winner.load(Ordering::SeqCst).to_string().into_bytes());
}

async fn large(kind: &Kind, here: &str) {
    let store = (kind.open)(here);
    let bytes: Vec<u8> = (0..4 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(store.create(Series::Releases, 1, bytes.clone()).await.unwrap());
    assert!(store.read(Series::Releases, 1).await.unwrap() == Some(bytes));
}

async fn apart(kind: &Kind, here: &str) {
    let (store, other) = ((kind.open)(here), (kind.open)(&format!("{here}-other")));
    assert!(store.create(Series::Releases, 4, b"4".to_vec()).await.unwrap());
    assert_eq!(other.last(Series::Releases, 1).await.unwrap(), Vec::<u64>::new());
    assert_eq!(other.read(Series::Releases, 4).await.unwrap(), None);
    assert_eq!((kind.open)(here).last(Series::Releases, 1).await.unwrap(), [4], "another process sees the same");
    let place = store.place();
    assert!(place.is_ascii() && place.ends_with(&format!("local/bird/{here}")), "{place}");
}

/// Every call of a store fails, in time, and says the same.
pub(crate) async fn refused(store: &dyn Store) -> Vec<StoreError> {
    let begun = Instant::now();
    let (created, read, last) = tokio::join!(
        store.create(Series::Lease, 1, b"{}".to_vec()),
        store.read(Series::Lease, 1),
        store.last(Series::Lease, 1)
    );
    assert!(begun.elapsed() < Duration::from_millis(TAKEOVER_MS / 2), "{:?}", begun.elapsed());
    let refused = vec![created.unwrap_err(), read.unwrap_err(), last.unwrap_err()];
    for e in &refused {
        let all = format!("{e} {e:?} {:?}", e.source);
        assert!(!all.contains(CANARY) && !all.contains("canary"), "{all}");
        assert!(e.hint.is_some() && e.what.starts_with("the state can't be "), "{all}");
    }
    refused
}

async fn unknown(kind: &Kind) {
    let Some(store) = &kind.unknown else { return };
    for e in refused(&**store).await {
        assert!(!e.retry && e.hint.as_ref().unwrap().contains("does not know these credentials"), "{e:?}");
    }
}

async fn nowhere(kind: &Kind) {
    let Some(store) = &kind.nowhere else { return };
    for e in refused(&**store).await {
        assert!(!e.retry && e.hint.as_ref().unwrap().contains("missing: make it with"), "{e:?}");
    }
}
