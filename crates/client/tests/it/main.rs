//! The client against a server of a few bytes, which answers, cuts and lies as each test says.

mod answers;
mod following;
mod server;
