//! Telling other processes what is not to be served any more.
