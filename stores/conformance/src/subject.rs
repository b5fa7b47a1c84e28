//! How a clause comes by the store that it tests.

use larder_store::Store;

use crate::Setup;

/// What makes the stores that a clause tests: [`Volatile`] or [`Durable`].
///
/// Each store that is made must be empty and share nothing with another.
pub trait Subject {
    /// What is made.
    type Store: Store;

    /// A new, empty store.
    fn make(&self, setup: Setup) -> impl Future<Output = Self::Store>;

    /// Closes a store and opens it again with what it held; `None` where it keeps nothing.
    fn reopen(&self, store: Self::Store) -> impl Future<Output = Option<Self::Store>>;
}

/// A store that keeps nothing when it is closed, made by this function.
///
/// ```
/// use larder_conformance::{Model, Setup, Volatile, clauses, run};
///
/// let model = Volatile(async |setup: Setup| Model::with(setup));
/// run("a miss", clauses::clause_01_a_miss_is_not_an_error(&model));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Volatile<F>(pub F);

/// A store that keeps what it holds: made by the first function, and closed and opened again with
/// the same settings by the second.
#[derive(Clone, Copy, Debug)]
pub struct Durable<F, R>(pub F, pub R);

impl<F, M, S> Subject for Volatile<F>
where
    F: Fn(Setup) -> M,
    M: Future<Output = S>,
    S: Store,
{
    type Store = S;

    async fn make(&self, setup: Setup) -> S {
        (self.0)(setup).await
    }

    async fn reopen(&self, _: S) -> Option<S> {
        None
    }
}

impl<F, M, R, O, S> Subject for Durable<F, R>
where
    F: Fn(Setup) -> M,
    M: Future<Output = S>,
    R: Fn(S) -> O,
    O: Future<Output = S>,
    S: Store,
{
    type Store = S;

    async fn make(&self, setup: Setup) -> S {
        (self.0)(setup).await
    }

    async fn reopen(&self, store: S) -> Option<S> {
        Some((self.1)(store).await)
    }
}
