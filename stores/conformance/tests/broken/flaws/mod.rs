//! One flaw for each clause, and some more, of the kind that real stores have.

mod answers;
mod buses;
mod leases;
mod writers;

use futures_util::FutureExt;
use larder_store::{Lookup, Object, Reply, Result, Writer};

pub(crate) use self::{answers::*, buses::*, leases::*, writers::*};

/// The model answers at once.
fn now<T>(reply: Reply<'_, T>) -> Result<T> {
    reply.now_or_never().expect("the model's replies are ready")
}

/// A writer around the model's, for a flaw that needs one.
fn wrap<W: Writer>(
    reply: Reply<'_, Box<dyn Writer>>,
    wrap: impl FnOnce(Box<dyn Writer>) -> W,
) -> Reply<'_, Box<dyn Writer>> {
    Reply::ready(now(reply).map(|inner| Box::new(wrap(inner)) as Box<dyn Writer>))
}

fn hit(reply: Reply<'_, Lookup>, change: impl FnOnce(Object) -> Object) -> Reply<'_, Lookup> {
    Reply::ready(now(reply).map(|found| match found {
        Lookup::Hit(object) => Lookup::Hit(change(object)),
        miss @ Lookup::Miss(_) => miss,
    }))
}
