//! The HTTP API: routes, the checks on who may ask, errors as JSON, OpenAPI, server-sent events.
//!
//! Owns the wire: names of fields, status codes, limits of requests. What a task is and what becomes of it is decided in
//! `core-types` and `store`; this crate runs nothing, claims nothing and writes no SQL.
//!
//! In this version it is for this machine alone: it binds loopback addresses only, answers only requests whose `Host`
//! names the loopback, and refuses changes that a foreign web page asks for.

pub mod error;
pub mod openapi;
pub mod server;
pub mod state;

mod access;
mod connections;
mod extract;
mod fields;
mod hub;
mod middleware;
mod repositories;
mod requests;
mod router;
mod routes;
mod schema;
mod views;
