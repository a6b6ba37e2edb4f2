//! Server-sent events out of a stream of bytes.

/// The longest event that is kept while it is not whole; a longer one is no event of ours.
const LONGEST: usize = 4 << 20;

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The id to resume from.
    pub(crate) id: Option<String>,
    /// Its data, lines joined.
    pub(crate) data: String,
}

/// Bytes that are not an event yet.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

/// An event without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Frames {
    /// Adds what arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        // A line ends with CR, LF or both; one kind is enough to look for.
        self.buffer.extend(bytes.iter().filter(|byte| **byte != b'\r'));
        if self.buffer.len() > LONGEST { Err(TooLong) } else { Ok(()) }
    }

    /// Takes the first whole event; comments, the server's sign of life, are skipped.
    pub(crate) fn take(&mut self) -> Option<Frame> {
        loop {
            let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let frame = parse(&String::from_utf8_lossy(&block));
            if frame.is_some() {
                return frame;
            }
        }
    }
}

fn parse(block: &str) -> Option<Frame> {
    let mut frame = Frame::default();
    let mut data: Vec<&str> = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => frame.id = Some(value.to_owned()),
            "data" => data.push(value),
            _ => {}
        }
    }
    frame.data = data.join("\n");
    (!data.is_empty()).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_and_comments_are_skipped() {
        let mut frames = Frames::default();
        frames
            .push(b": alive\n\nid: 7\nevent: run\ndata: {\"a\":1}\ndata: b\n\nid: 8\nda")
            .unwrap();
        let frame = frames.take().unwrap();
        assert_eq!(frame.id.as_deref(), Some("7"));
        assert_eq!(frame.data, "{\"a\":1}\nb");
        assert_eq!(frames.take(), None);
        frames.push(b"ta: c\r\n\r\n").unwrap();
        assert_eq!(frames.take().unwrap().data, "c");
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        let mut frames = Frames::default();
        assert_eq!(frames.push(&vec![b'x'; LONGEST + 1]), Err(TooLong));
    }
}
