//! Locks whose content outlives a panic of the thread that held them. What they guard is whole between
//! any two statements, and a panic of a stage is caught and counted.

use std::{
    sync::{
        self, Condvar, LockResult, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard,
        TryLockError,
    },
    time::Duration,
};

fn ignore_panics<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    #[must_use]
    pub const fn new(content: T) -> Self {
        Self(sync::Mutex::new(content))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        ignore_panics(self.0.lock())
    }

    /// Returns nothing if another thread holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    #[must_use]
    pub const fn new(content: T) -> Self {
        Self(sync::RwLock::new(content))
    }

    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        ignore_panics(self.0.read())
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        ignore_panics(self.0.write())
    }
}

/// Waits for a notification of the condition variable.
pub fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    ignore_panics(condition.wait(guard))
}

/// Waits while the condition holds, at most for this time. Returns whether it still holds.
pub fn wait_while<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    limit: Duration,
    holds: impl FnMut(&mut T) -> bool,
) -> (MutexGuard<'a, T>, bool) {
    let (guard, result) = ignore_panics(condition.wait_timeout_while(guard, limit, holds));
    (guard, result.timed_out())
}
