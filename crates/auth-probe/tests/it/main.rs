//! Each reason on this host, produced for real: the real command lines, a scripted model, scripted hosts of the account.

mod claude;
mod credentials;
mod docker;
mod opencode;
mod programs;
mod sharing;
mod world;
