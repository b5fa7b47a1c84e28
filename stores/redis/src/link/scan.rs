//! The names in the server, a part at a time.

use std::{collections::VecDeque, sync::Arc};

use larder_store::Result;
use redis::Value;

use super::{Link, node::Node, request::Request};

/// A walk through the names that match a pattern, server by server.
///
/// As `SCAN` has it: a name that is there all the while comes at least once, others perhaps; so it
/// is when a slot of a cluster moves meanwhile, but that a name of it may be left out.
pub(crate) struct Scan {
    link: Link,
    pattern: Vec<u8>,
    /// How many names the server looks at for one part.
    count: usize,
    cursor: u64,
    /// Those that are left; `None` before the first part.
    masters: Option<VecDeque<Arc<Node>>>,
}

impl Link {
    /// The names that match the pattern, in all masters. `count` is how many the server looks at
    /// before it answers.
    pub(crate) fn scan(&self, pattern: Vec<u8>, count: usize) -> Scan {
        Scan {
            link: self.clone(),
            pattern,
            count,
            cursor: 0,
            masters: None,
        }
    }
}

impl Scan {
    /// The next names, which may be none; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the same part comes again.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        if self.masters.is_none() {
            self.masters = Some(self.link.masters().await?.into());
        }
        let masters = self.masters.get_or_insert_default();
        let Some(master) = masters.front() else {
            return Ok(None);
        };
        let mut command = redis::cmd("SCAN");
        command.arg(self.cursor).arg("MATCH").arg(&self.pattern);
        command.arg("COUNT").arg(self.count);
        let request = Request::Command(&command);
        let reply: Value = self.link.ask(master, request).await?.one();
        let (cursor, names) = super::convert(reply)?;
        self.cursor = cursor;
        if cursor == 0 {
            masters.pop_front();
        }
        Ok(Some(names))
    }
}
