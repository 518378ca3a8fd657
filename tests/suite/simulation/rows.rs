//! Rows that fail, and forget to say that they were written.

use std::sync::{Arc, Mutex};

use samen_log::projector::{Rows, RowsError};
use samen_log::{Cursor, Record};

use super::world::{World, lock};

/// What a projector writes: every record, in the order in which it was
/// applied. Clones are the same rows.
#[derive(Clone)]
pub struct SimRows {
    world: World,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    checkpoint: Cursor,
    applied: Vec<Arc<Record>>,
}

// === impl SimRows ===

impl SimRows {
    pub fn new(world: &World) -> Self {
        SimRows { world: world.clone(), state: Arc::default() }
    }

    /// Begins from nothing, as a store does that is built anew.
    pub fn clear(&self) {
        *lock(&self.state) = State::default();
    }

    pub fn applied(&self) -> Vec<Arc<Record>> {
        lock(&self.state).applied.clone()
    }
}

impl Rows for SimRows {
    async fn checkpoint(&self, _log: &str) -> Result<Cursor, RowsError> {
        self.world.wire().await;
        if self.world.fails(0.05) {
            return Err(RowsError::Failed("simulated".to_owned()));
        }
        Ok(lock(&self.state).checkpoint.clone())
    }

    async fn apply(
        &self,
        _log: &str,
        before: &Cursor,
        records: &[Arc<Record>],
    ) -> Result<(), RowsError> {
        self.world.wire().await;
        if self.world.fails(0.05) {
            return Err(RowsError::Failed("simulated".to_owned()));
        }
        {
            let mut state = lock(&self.state);
            let there = &state.checkpoint;
            if (there.epoch, there.position) != (before.epoch, before.position) {
                return Err(RowsError::Fenced);
            }
            state.applied.extend(records.iter().cloned());
            if let Some(last) = records.last() {
                self.world.tell(|| format!("rows hold {}", last.position));
                state.checkpoint = Cursor::at(last);
            }
        }
        // Committed; whether that is heard is another matter.
        self.world.wire().await;
        if self.world.fails(0.05) {
            return Err(RowsError::Failed("simulated".to_owned()));
        }
        Ok(())
    }

    fn saw(&self, _log: &str, _cursor: &Cursor, _caught_up: bool) {}
}
