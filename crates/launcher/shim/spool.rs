//! The output on disk: frames in segments, the head for good, then a ring of tail segments.
//!
//! It never fails: what cannot be written is counted as dropped, and the offsets go on, so that a
//! reader sees the hole with its exact size.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use crate::{
    format::{
        FRAME_HEADER, FrameHeader, MAX_FRAME_DATA, SEGMENT_HEADER, segment_header, segment_name,
    },
    record::now_us,
};

/// The smallest useful tail segment.
const MIN_SEGMENT: u64 = 4 << 10;

pub(crate) struct Spool {
    /// The offset of the next byte.
    offset: u64,
    dropped: u64,
    /// Whether the head takes more.
    in_head: bool,
    current: Option<Segment>,
    /// Closed tail segments, oldest first.
    closed: VecDeque<Segment>,
    head_bytes: u64,
    tail_bytes: u64,
}

struct Segment {
    name: String,
    file: File,
    /// Bytes of the file.
    size: u64,
    /// Bytes of output in it.
    data: u64,
}

impl Spool {
    /// Makes the first file.
    pub(crate) fn create(head_bytes: u64, tail_bytes: u64) -> io::Result<Self> {
        let current = Some(Segment::create(0)?);
        let closed = VecDeque::new();
        Ok(Self { offset: 0, dropped: 0, in_head: true, current, closed, head_bytes, tail_bytes })
    }

    /// Where the output ends, and how much of it is not kept.
    pub(crate) fn end(&self) -> (u64, u64) {
        (self.offset, self.dropped)
    }

    /// Takes some output, and keeps it if it can.
    pub(crate) fn append(&mut self, stream: u8, data: &[u8]) {
        let time_us = now_us();
        let mut rest = data;
        while !rest.is_empty() {
            let count = self.room().min(rest.len()).min(MAX_FRAME_DATA);
            if count == 0 {
                if self.next_segment() {
                    continue;
                }
                self.drop_bytes(rest.len());
                return;
            }
            let (now, later) = rest.split_at(count);
            let written = self.current.as_mut().is_some_and(|segment| {
                segment.write(&FrameHeader::encode(stream, self.offset, time_us, now), now)
            });
            if written {
                self.offset += count as u64;
            } else {
                self.drop_bytes(count);
            }
            rest = later;
        }
    }

    fn drop_bytes(&mut self, count: usize) {
        self.offset += count as u64;
        self.dropped += count as u64;
    }

    /// How much output the current segment still takes.
    fn room(&self) -> usize {
        let Some(current) = &self.current else {
            return 0;
        };
        let cap = if self.in_head { self.head_bytes } else { self.segment_bytes() };
        let left = cap.saturating_sub(current.size).saturating_sub(FRAME_HEADER as u64);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    fn segment_bytes(&self) -> u64 {
        (self.tail_bytes / 8).max(MIN_SEGMENT.min(self.tail_bytes))
    }

    /// Goes on in a new tail segment and makes room for it. `false`: there is no place.
    fn next_segment(&mut self) -> bool {
        let full = self.current.take();
        if !std::mem::take(&mut self.in_head) {
            self.closed.extend(full);
        }
        let segment = self.segment_bytes();
        if segment <= (SEGMENT_HEADER + FRAME_HEADER) as u64 {
            return false;
        }
        let kept = |closed: &VecDeque<Segment>| {
            closed.iter().map(|closed| closed.size).fold(segment, u64::saturating_add)
        };
        while kept(&self.closed) > self.tail_bytes {
            let Some(oldest) = self.closed.pop_front() else {
                break;
            };
            // A file that is gone already is as good as removed.
            fs::remove_file(&oldest.name).ok();
            self.dropped += oldest.data;
        }
        self.current = Segment::create(self.offset).ok();
        self.current.is_some()
    }
}

impl Segment {
    fn create(offset: u64) -> io::Result<Self> {
        let name = segment_name(offset);
        let options = OpenOptions::new().append(true).create_new(true).mode(crate::record::file_mode()).clone();
        let mut file = options.open(&name)?;
        if let Err(error) = file.write_all(&segment_header()) {
            fs::remove_file(&name).ok();
            return Err(error);
        }
        Ok(Self { name, file, size: SEGMENT_HEADER as u64, data: 0 })
    }

    /// Writes a whole frame or none of it.
    fn write(&mut self, header: &[u8; FRAME_HEADER], data: &[u8]) -> bool {
        let total = FRAME_HEADER + data.len();
        let written = self.file.write_vectored(&[IoSlice::new(header), IoSlice::new(data)]);
        match written {
            Ok(count) if count == total => {
                self.size += total as u64;
                self.data += data.len() as u64;
                true
            }
            Ok(0) | Err(_) => false,
            Ok(_) => {
                // The disk is full: take the torn frame back. If even that fails, the segment is
                // given up, for a reader could not get past it.
                if self.file.set_len(self.size).is_err() {
                    self.size = u64::MAX;
                }
                false
            }
        }
    }
}
