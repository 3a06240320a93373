use crate::ManualClock;

/// What a case gets: a store without any runs, and the clock of that store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context<'a, S: ?Sized> {
    /// The store under test.
    pub store: &'a S,
    /// The clock that the store uses. It stands still unless a case advances it.
    pub clock: &'a ManualClock,
}

impl<'a, S: ?Sized> Context<'a, S> {
    /// Combines a store with the clock that it uses.
    pub fn new(store: &'a S, clock: &'a ManualClock) -> Self {
        Self { store, clock }
    }
}

impl<S: ?Sized> Clone for Context<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: ?Sized> Copy for Context<'_, S> {}
