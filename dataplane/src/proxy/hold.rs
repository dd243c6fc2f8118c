//! The queue of requests that wait at the door. It decides who may wait and who goes first; it never looks at a request.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::limits::HoldLimits;

/// Whether requests wait, and which do.
#[derive(Debug, Default)]
pub(super) struct Hold {
    limits: Option<HoldLimits>,
    waiting: VecDeque<Waiting>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    go: oneshot::Sender<()>,
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: u64,
    pub(super) go: oneshot::Receiver<()>,
}

/// What a request that found the route held is told.
#[derive(Debug)]
pub(super) enum Queued {
    /// It is not held any more: choose again.
    Go,
    /// No place is left.
    Full,
    Wait(Place, HoldLimits),
}

impl Hold {
    pub(super) fn is_on(&self) -> bool {
        self.limits.is_some()
    }

    pub(super) fn start(&mut self, limits: HoldLimits) {
        self.limits = Some(limits);
    }

    pub(super) fn queue(&mut self) -> Queued {
        let Some(limits) = self.limits else { return Queued::Go };
        if self.waiting.len() >= limits.waiting_max {
            return Queued::Full;
        }
        let (go, turn) = oneshot::channel();
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back(Waiting { id, go });
        Queued::Wait(Place { id, go: turn }, limits)
    }

    /// Gives a place back; ids grow along the queue.
    pub(super) fn give_back(&mut self, id: u64) {
        if let Ok(at) = self.waiting.binary_search_by_key(&id, |waiting| waiting.id) {
            self.waiting.remove(at);
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Ends the hold; what is returned must be let go in this order, after the new table is published.
    pub(super) fn end(&mut self) -> Vec<oneshot::Sender<()>> {
        self.limits = None;
        self.waiting.drain(..).map(|waiting| waiting.go).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_given_back_and_let_go_in_order() {
        let mut hold = Hold::default();
        assert!(matches!(hold.queue(), Queued::Go));
        hold.start(HoldLimits { waiting_max: 3, ..HoldLimits::default() });
        let mut places: Vec<Place> = (0..3)
            .map(|_| match hold.queue() {
                Queued::Wait(place, _) => place,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(matches!(hold.queue(), Queued::Full));
        hold.give_back(places.remove(1).id);
        hold.give_back(77);
        assert_eq!(hold.waiting(), 2);
        let Queued::Wait(last, _) = hold.queue() else { panic!("the place given back is free") };
        places.push(last);
        for go in hold.end() {
            go.send(()).unwrap();
            assert!(places.remove(0).go.try_recv().is_ok(), "the first that came goes first");
        }
        assert!(places.is_empty() && hold.waiting() == 0 && !hold.is_on());
    }
}
