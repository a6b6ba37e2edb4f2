//! The settings as their users meet them: layers, sources, masks and reports of faults.

mod documents;
mod faults;
mod layers;
mod support;
