//! The dashboard in a real Chromium, as people use it.

mod access;
mod checks;
mod chromium;
mod driver;
mod measure;
mod pages;
mod work;
mod world;
