//! The whole life of Tidemill on one page.
