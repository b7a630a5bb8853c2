//! Keys, certificates and the files or text they are handed over in.

use std::path::Path;
use std::sync::atomic::Ordering;

use zeroize::Zeroizing;

use super::work::Work;
use super::{BatchError, Done, Made, Order, Standing, lock};
use crate::core::cert::Certificate;
use crate::core::draft::{Draft, DraftError, DraftSpec};
use crate::core::handover::{Leaf, STREAM_BYTES, framed};
use crate::core::ids::{CertificateId, hex};
use crate::core::key::PublicKey;
use crate::core::record::SerialKey;
use crate::ports::FileError;

impl Work<'_, '_> {
    /// Makes what is claimed, and puts it where it goes.
    pub(super) fn issue(&self, mine: Vec<(Order, SerialKey)>) -> Result<(), BatchError> {
        let mut made = Vec::with_capacity(mine.len());
        let core = self.cores.take();
        for (order, key) in mine {
            let verify = made.is_empty();
            made.push(self.make(order, key, verify)?);
        }
        if !self.request.shape.is_stream() {
            drop(core);
            self.place(&made)?;
            return self.commit(&[], made);
        }
        let bytes = self.block_of_stream(&made)?;
        drop(core);
        let committed = self.commit(&bytes, made);
        if bytes.capacity() >= self.size * STREAM_BYTES {
            lock(&self.buffers).push(bytes);
        }
        committed
    }

    /// Key and certificate. One signature of each block is verified: it costs twice a signature to
    /// verify one, and the key was proved to be the CA's when it was opened.
    fn make(&self, order: Order, key: SerialKey, verify: bool) -> Result<Made, BatchError> {
        let issuer = &self.request.issuer;
        let algorithm = self.request.algorithm;
        let (private, public) = self
            .flow
            .keygen
            .generate(algorithm)
            .map_err(BatchError::Key)?;
        let mut serial = [0; 16];
        serial.copy_from_slice(&key.serial);
        let tbs = self.tbs(&order, serial, &public)?;
        let der = self.stamp.seal(&tbs, &issuer.signer.sign(&tbs)?);
        if verify {
            let leaf = Certificate::from_der(&der).map_err(DraftError::Sealed)?;
            if !leaf.verifies_with(issuer.signer.public()) {
                return Err(DraftError::Signature.into());
            }
        }
        Ok(Made {
            id: CertificateId::of_der(&der),
            order,
            key,
            private,
            der,
        })
    }

    /// By the stamp, unless the device has alternative names of its own: they are no part of it.
    fn tbs(
        &self,
        order: &Order,
        serial: [u8; 16],
        public: &PublicKey,
    ) -> Result<Vec<u8>, DraftError> {
        if order.alternative_names.is_empty() {
            return self.stamp.tbs(serial, &order.subject, public);
        }
        let spec = DraftSpec {
            subject: order.subject.clone(),
            serial,
            validity: self.request.validity,
            public_key: public,
            purpose: self.request.purpose,
            alternative_names: order.alternative_names.clone(),
            extras: self.request.extras.clone(),
        };
        Ok(Draft::new(&spec, &self.view)?.tbs().to_vec())
    }

    fn leaf<'m>(&self, made: &'m Made) -> Leaf<'m> {
        Leaf {
            name: &made.order.device,
            id: &made.id,
            serial: &made.key.serial,
            validity: self.request.validity,
            key: &made.private,
            der: &made.der,
        }
    }

    fn block_of_stream(&self, made: &[Made]) -> Result<Zeroizing<Vec<u8>>, BatchError> {
        let shape = self.request.shape;
        let mut block = lock(&self.buffers).pop().unwrap_or_default();
        block.clear();
        // Full size from the start: where a buffer grows, it leaves keys behind.
        block.reserve_exact(self.size * STREAM_BYTES);
        for one in made {
            self.authority.append(shape, &self.leaf(one), &mut block);
        }
        Ok(framed(shape, block)?)
    }

    /// Everything durable first, then each folder under its name, then the names durable.
    fn place(&self, made: &[Made]) -> Result<(), BatchError> {
        let (folders, request) = (self.flow.folders, self.request);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let staging = self.staging.join(number.to_string());
        self.flow.files.create_dir(&staging)?;
        for one in made {
            let leaf = self.leaf(one);
            let files = self
                .authority
                .files(request.shape, &leaf, request.password)?;
            folders.write(&staging.join(&one.order.device), &files)?;
        }
        folders.sync(&staging)?;
        for one in made {
            self.put(&staging, &one.order.device)?;
        }
        folders.sync_names(request.out)?;
        Ok(folders.remove(&staging)?)
    }

    /// Only a folder of PEM files tells whose it is. Of the other shapes, what a dead run had put
    /// in place and nobody was told of is taken away: the claim is ours now.
    fn put(&self, staging: &Path, device: &str) -> Result<(), FileError> {
        let (folders, request) = (self.flow.folders, self.request);
        let (from, to) = (staging.join(device), request.out.join(device));
        match folders.place(&from, &to) {
            Err(FileError::Exists(_))
                if !request.shape.is_folder_of_pem() && lock(&self.given_up).contains(device) =>
            {
                folders.remove(&to)?;
                folders.place(&from, &to)
            }
            placed => placed,
        }
    }

    pub(super) fn done(&self, made: &Made) -> Done {
        let request = self.request;
        let folder = || request.out.join(&made.order.device);
        Done {
            name: made.order.device.clone(),
            standing: Standing::Issued,
            certificate_id: made.id.clone(),
            serial: hex(&made.key.serial),
            validity: request.validity,
            folder: (!request.shape.is_stream()).then(folder),
        }
    }
}
