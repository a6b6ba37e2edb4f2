//! How a backup lies in a file: frames, and a sum over all of them.

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::BackupError;

/// How a backup begins.
const MAGIC: &[u8] = b"opentiger backup 1\n";
/// The longest frame that is written, and half the longest that is read.
pub(super) const LONGEST: usize = 1 << 20;

/// Writes frames.
pub(super) struct Writer<'a, W> {
    file: &'a mut W,
    sum: Sha256,
}

impl<'a, W: AsyncWrite + Unpin + Send> Writer<'a, W> {
    /// Begins a backup.
    pub(super) async fn begin(file: &'a mut W) -> Result<Self, BackupError> {
        let mut writer = Self { file, sum: Sha256::new() };
        writer.bytes(MAGIC).await?;
        Ok(writer)
    }

    /// Ends it with the sum of everything before.
    pub(super) async fn end(mut self) -> Result<(), BackupError> {
        let sum = self.sum.clone().finalize();
        self.frame(b'E', &sum).await?;
        Ok(self.file.flush().await?)
    }

    async fn bytes(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.sum.update(bytes);
        Ok(self.file.write_all(bytes).await?)
    }

    /// Writes a frame.
    pub(super) async fn frame(&mut self, kind: u8, content: &[u8]) -> Result<(), BackupError> {
        let length = u32::try_from(content.len())
            .map_err(|_| BackupError::NotWhole("a part is too long"))?;
        self.bytes(&[kind]).await?;
        self.bytes(&length.to_be_bytes()).await?;
        self.bytes(content).await
    }
}

/// Reads frames.
pub(super) struct Reader<'a, R> {
    file: &'a mut R,
    sum: Sha256,
    /// The sum of everything before the last frame.
    before: Sha256,
}

impl<'a, R: AsyncRead + Unpin + Send> Reader<'a, R> {
    /// Begins to read.
    pub(super) async fn begin(file: &'a mut R) -> Result<Self, BackupError> {
        let mut reader = Self { file, sum: Sha256::new(), before: Sha256::new() };
        let mut magic = vec![0; MAGIC.len()];
        reader.exactly(&mut magic).await?;
        if magic != MAGIC {
            return Err(BackupError::NotWhole("it begins otherwise"));
        }
        Ok(reader)
    }

    async fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        match self.file.read_exact(bytes).await {
            Ok(_) => {
                self.sum.update(bytes);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(BackupError::NotWhole("it ends too soon"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next frame: its letter and its content.
    pub(super) async fn frame(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        self.before = self.sum.clone();
        let (mut kind, mut length) = ([0; 1], [0; 4]);
        self.exactly(&mut kind).await?;
        self.exactly(&mut length).await?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > 2 * LONGEST {
            return Err(BackupError::NotWhole("a part is too long"));
        }
        let mut content = vec![0; length];
        self.exactly(&mut content).await?;
        let [kind] = kind;
        Ok((kind, content))
    }

    /// The content of the next frame, which has to have this letter.
    pub(super) async fn frame_of(&mut self, wanted: u8) -> Result<Vec<u8>, BackupError> {
        match self.frame().await? {
            (kind, content) if kind == wanted => Ok(content),
            _ => Err(BackupError::NotWhole("a part is out of place")),
        }
    }

    /// The sum of everything before the last frame.
    pub(super) fn sum_before_end(&self) -> Vec<u8> {
        self.before.clone().finalize().to_vec()
    }
}
