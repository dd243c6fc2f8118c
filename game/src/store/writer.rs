//! The one thread that writes: opens the store and keeps trying, turns what is queued into batches, answers after they
//! are durable, and notices when the disk fails and when it works again. It never answers 201 for what is not durable.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::answers::Answers;
use super::gathering::Gathering;
use super::{Answer, Condition, Engine, Kept, MemoryOpener, Message, NewScore, OpenError, Opener, Part, Refusal, View};
use crate::board::{Board, Entry};
use crate::clock;
use crate::metrics::Metrics;

/// Most scores in one commit.
pub(super) const BATCH_SCORES_MAX: u16 = 256;
/// The contract's pace while another process holds the store.
const HELD_RETRY: Duration = Duration::from_millis(10);
const UNUSABLE_RETRY: Duration = Duration::from_secs(1);
/// While writes fail, how often a probe looks whether they work again.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Failures in a row after which the process calls itself not ready: one bad write alone doesn't take it out.
const FAILURES_TOLERATED: u32 = 2;

pub(crate) struct Writer {
    opener: Box<dyn Opener>,
    inbox: Receiver<Message>,
    view: Arc<View>,
    metrics: Arc<Metrics>,
    fallback_to_memory: bool,
    answers: Answers,
    board: Board,
    /// Failures since the last durable write.
    failures: u32,
    gathering: Gathering,
}

type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// Why a stretch of serving ended.
enum End {
    Close,
    /// The engine has to be opened again.
    Lost(String),
    /// The process has to end.
    Fenced(String),
}

impl Drop for Writer {
    /// However the thread ends, nobody is told that scores can be stored.
    fn drop(&mut self) {
        self.view.condition.store(Arc::new(Condition::Closed));
        self.metrics.show_mode(None);
        self.metrics.show_role("none");
    }
}

impl Writer {
    pub(crate) fn new(
        opener: Box<dyn Opener>,
        inbox: Receiver<Message>,
        view: Arc<View>,
        metrics: Arc<Metrics>,
        fallback_to_memory: bool,
    ) -> Self {
        let (answers, board) = (Answers::default(), Board::default());
        Self {
            opener,
            inbox,
            view,
            metrics,
            fallback_to_memory,
            answers,
            board,
            failures: 0,
            gathering: Gathering::default(),
        }
    }

    pub(crate) fn run(mut self) {
        while let Some(mut engine) = self.open() {
            match self.serve(engine.as_mut()) {
                End::Close => {
                    if let Err(fault) = engine.close() {
                        // Every acknowledged score is durable in the log already; the next start reads it.
                        warn!(error = %fault, "the score store could not be closed cleanly");
                    }
                    self.opener.close();
                    return;
                }
                End::Fenced(reason) => {
                    error!(reason, "this process accepts nothing any more and ends");
                    drop(engine);
                    self.become_unavailable(Condition::Fenced { reason });
                    self.view.fenced.send_replace(true);
                    self.refuse_until_closed();
                    self.opener.close();
                    return;
                }
                End::Lost(reason) => {
                    error!(reason, "the score store is lost and will be opened again");
                    drop(engine);
                    self.become_unavailable(Condition::Unusable { reason });
                }
            }
        }
    }

    /// Tries until the store is open; `None` when told to close before.
    fn open(&mut self) -> Option<Box<dyn Engine>> {
        let mut said = String::new();
        loop {
            let opened = self.opener.open().and_then(|mut engine| {
                // Ready means that a score can be made durable, so one write is tried before.
                let top = engine.probe().and_then(|()| engine.top());
                top.map(|top| (engine, top)).map_err(|fault| OpenError::Unusable(fault.message))
            });
            let pause = match opened {
                Ok((engine, top)) => {
                    self.become_open(engine.as_ref(), top);
                    return Some(engine);
                }
                Err(OpenError::Held) => {
                    self.become_unavailable(Condition::Held);
                    HELD_RETRY
                }
                Err(OpenError::Unusable(reason)) if self.fallback_to_memory => {
                    warn!(reason, "the score store is unusable; scores are kept in memory, as SCORE_DB_FALLBACK asks");
                    // Later losses of the database end here too: the fallback is for the rest of the process's life.
                    self.opener = Box::new(MemoryOpener);
                    Duration::ZERO
                }
                Err(OpenError::Unusable(reason)) => {
                    self.become_unavailable(Condition::Unusable { reason });
                    UNUSABLE_RETRY
                }
            };
            let now = self.view.condition.load().to_string();
            if pause > Duration::ZERO && now != said {
                warn!(reason = now, "not ready");
                said = now;
            }
            if self.refuse_for(pause) {
                return None;
            }
        }
    }

    fn show_role(&self, role: &'static str) {
        self.metrics.show_role(role);
        let part = Part { role, ..(**self.view.part.load()).clone() };
        self.view.part.store(Arc::new(part));
    }

    fn refuse_until_closed(&self) {
        while !self.refuse_for(HELD_RETRY) {}
    }

    /// Refuses what comes in during `pause`; `true` when told to close.
    fn refuse_for(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Score { reply, .. }) => {
                    self.metrics.queue_depth.dec();
                    drop(reply.send(Err(Refusal::NotOpen)));
                }
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn become_unavailable(&self, condition: Condition) {
        self.metrics.show_mode(None);
        self.show_role(match condition {
            Condition::Held => "waiting",
            Condition::Fenced { .. } => "fenced",
            _ => "none",
        });
        self.view.condition.store(Arc::new(condition));
    }

    fn become_open(&mut self, engine: &dyn Engine, top: Vec<Entry>) {
        let mode = engine.mode();
        self.failures = 0;
        self.metrics.show_mode(Some(mode));
        if !engine.keeps_list() {
            self.board = Board::load(top);
            self.publish_board();
            self.show_role("writer");
        }
        self.view.condition.store(Arc::new(Condition::Open { mode, failing: None }));
        info!(storage_mode = mode, "the score store is open");
    }

    fn publish_board(&self) {
        self.metrics.high_score.set(self.board.high_score().map_or(0.0, |score| score.get()));
        self.view.board.store(Arc::new(self.board.publish()));
    }

    fn serve(&mut self, engine: &mut dyn Engine) -> End {
        let mut batch: Vec<(NewScore, Reply)> = Vec::with_capacity(BATCH_SCORES_MAX.into());
        loop {
            let mut oldest = None;
            let mut close = false;
            match self.receive() {
                Ok(Message::Score { score, arrived, reply }) => {
                    oldest = Some(arrived);
                    batch.push((score, reply));
                    self.gathering.wait(&self.metrics.queue_depth);
                    while batch.len() < usize::from(BATCH_SCORES_MAX) && !close {
                        match self.inbox.try_recv() {
                            Ok(Message::Score { score, reply, .. }) => batch.push((score, reply)),
                            Ok(Message::Close) => close = true,
                            Err(_) => break,
                        }
                    }
                }
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => return End::Close,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.metrics.queue_depth.sub(i64::try_from(batch.len()).unwrap_or_default());
            let outcome = match oldest {
                Some(arrived) => self.commit(engine, &mut batch, arrived),
                None => engine.probe(),
            };
            match outcome {
                Ok(()) => self.wrote(engine.mode()),
                Err(fault) => {
                    self.failed(engine.mode(), &fault.message);
                    if fault.fenced {
                        return End::Fenced(fault.message);
                    }
                    if fault.lost {
                        return if close { End::Close } else { End::Lost(fault.message) };
                    }
                }
            }
            if close {
                return End::Close;
            }
        }
    }

    fn receive(&self) -> Result<Message, RecvTimeoutError> {
        if self.failures == 0 {
            return self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        self.inbox.recv_timeout(PROBE_EVERY)
    }

    /// Stores a batch and answers everyone in it.
    fn commit(
        &mut self,
        engine: &mut dyn Engine,
        batch: &mut Vec<(NewScore, Reply)>,
        oldest: Instant,
    ) -> Result<(), super::EngineError> {
        let (mut scores, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (score, reply) in batch.drain(..) {
            match score.run_id.as_ref().and_then(|run_id| self.answers.get(run_id)) {
                Some(told) => drop(reply.send(Ok(told.clone()))),
                None => {
                    scores.push(score);
                    replies.push(reply);
                }
            }
        }
        if scores.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let kept = engine.store(&scores, clock::now_ms());
        let now = Instant::now();
        let took = now - started;
        self.metrics.commit_seconds.observe(took.as_secs_f64());
        self.gathering.committed(scores.len(), self.metrics.queue_depth.get(), took);
        let kept = match kept {
            Ok(kept) => kept,
            Err(fault) => {
                self.metrics.store_failures.inc();
                for reply in replies {
                    drop(reply.send(Err(Refusal::NotDurable)));
                }
                return Err(fault);
            }
        };
        self.metrics.commit_scores.observe(f64::from(u32::try_from(scores.len()).unwrap_or(u32::MAX)));
        if !engine.keeps_list() {
            self.metrics.ingest_lag_seconds.set((now - oldest).as_secs_f64());
        }
        self.answer(now, engine, &scores, kept, replies);
        Ok(())
    }

    fn answer(&mut self, now: Instant, engine: &dyn Engine, scores: &[NewScore], kept: Vec<Kept>, replies: Vec<Reply>) {
        // The list is published before anyone hears of a score, so who was answered finds it there.
        let mut changed = false;
        let mut answers = Vec::with_capacity(kept.len());
        for kept in kept {
            if !kept.repeated {
                self.metrics.games_completed.inc();
                changed |= !engine.keeps_list() && self.board.offer(&kept.entry);
            }
            let high_score = engine.high_score().or(self.board.high_score()).unwrap_or(kept.entry.score);
            answers.push(Answer { kept, high_score });
        }
        if changed {
            self.publish_board();
        }
        for ((new, answer), reply) in scores.iter().zip(answers).zip(replies) {
            let Some(run_id) = &new.run_id else {
                drop(reply.send(Ok(answer)));
                continue;
            };
            let told = if let Some(told) = self.answers.get(run_id) {
                told.clone()
            } else {
                self.answers.remember(now, run_id, &answer);
                answer
            };
            drop(reply.send(Ok(told)));
        }
    }

    fn wrote(&mut self, mode: &'static str) {
        if self.failures > FAILURES_TOLERATED {
            info!("scores can be made durable again");
            self.view.condition.store(Arc::new(Condition::Open { mode, failing: None }));
        }
        self.failures = 0;
    }

    fn failed(&mut self, mode: &'static str, message: &str) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            warn!(error = message, "a batch of scores could not be made durable and was refused");
        }
        if self.failures == FAILURES_TOLERATED + 1 {
            error!(error = message, "not ready: scores can't be made durable");
            let failing = Some(message.to_owned());
            self.view.condition.store(Arc::new(Condition::Open { mode, failing }));
        }
    }
}
