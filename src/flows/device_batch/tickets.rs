//! A counting semaphore.

use std::sync::{Condvar, Mutex, PoisonError};

use super::lock;

/// So many may go on at a time; the others wait.
pub(super) struct Tickets {
    left: Mutex<usize>,
    returned: Condvar,
}

/// One of them; returned when it is dropped.
pub(super) struct Ticket<'a>(&'a Tickets);

impl Tickets {
    pub(super) fn new(count: usize) -> Self {
        Self {
            left: Mutex::new(count),
            returned: Condvar::new(),
        }
    }

    pub(super) fn take(&self) -> Ticket<'_> {
        let mut left = self
            .returned
            .wait_while(lock(&self.left), |left| *left == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *left -= 1;
        Ticket(self)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        *lock(&self.0.left) += 1;
        self.0.returned.notify_one();
    }
}
