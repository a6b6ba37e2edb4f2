//! The HTTP API and the dashboard: routes, the checks on who may ask, errors as JSON, OpenAPI, server-sent events, pages.
//!
//! Owns the wire: names of fields, status codes, limits of requests. What a task is and what becomes of it is decided in
//! `core-types` and `store`; this crate runs nothing, claims nothing and writes no SQL.
//!
//! Who may ask what is decided by one layer around all routes, `access`: callers on this machine, and callers with a key.

pub mod breaker;
pub mod error;
pub mod openapi;
pub mod server;
pub mod state;

mod access;
mod agreement;
mod charted;
mod connections;
mod crowd;
mod extract;
mod fields;
mod hub;
pub mod logins;
pub mod metrics;
mod middleware;
mod pages;
mod path_ids;
mod repositories;
mod requests;
mod router;
mod routes;
mod schema;
mod views;
