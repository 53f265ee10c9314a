//! Exports as Parquet. A file gets its name when it is whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use ledger::admin::NumberedCharge;
use parquet::{
    data_type::{ByteArray, FixedLenByteArray},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::parser::parse_message_type,
};

use super::{
    Sink,
    columns::{COLUMNS, Column, Kind, Value},
};

/// Charges of one row group: what is kept in memory.
const GROUP_ROWS: usize = 20_000;
/// The bytes of a decimal: as many as 20 digits take.
const DECIMAL_BYTES: usize = 9;

/// Writes them.
pub(super) struct Parquet<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    rows: Vec<NumberedCharge>,
    /// The file's name until it is whole, and then.
    names: Option<(PathBuf, PathBuf)>,
}

impl Parquet<io::Stdout> {
    pub(super) fn streaming(out: io::Stdout) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Self::new(out, None)?))
    }
}

impl Parquet<File> {
    /// Into a file of another name beside it, which is there from the beginning.
    pub(super) fn into_file(path: &Path) -> io::Result<Box<dyn Sink>> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial)?;
        Ok(Box::new(Self::new(file, Some((partial, path.to_owned())))?))
    }
}

impl<W: Write + Send> Parquet<W> {
    fn new(out: W, names: Option<(PathBuf, PathBuf)>) -> io::Result<Self> {
        let schema = parse_message_type(&schema()).map_err(plain)?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("turnpike ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties));
        Ok(Self {
            writer: writer.map_err(plain)?,
            rows: Vec::new(),
            names,
        })
    }

    fn group(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(plain)?;
        for column in COLUMNS {
            let mut cells = group
                .next_column()
                .map_err(plain)?
                .ok_or_else(|| io::Error::other("the schema has fewer columns than there are"))?;
            fill(&mut cells, column, &rows).map_err(plain)?;
            cells.close().map_err(plain)?;
        }
        group.close().map(drop).map_err(plain)
    }
}

impl<W: Write + Send> Sink for Parquet<W> {
    fn write(&mut self, charges: &[NumberedCharge]) -> io::Result<()> {
        for part in charges.chunks(GROUP_ROWS) {
            if self.rows.len().saturating_add(part.len()) > GROUP_ROWS {
                self.group()?;
            }
            self.rows.extend_from_slice(part);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.group()?;
        self.writer.finish().map_err(plain)?;
        self.writer.inner_mut().flush()?;
        let Some((partial, whole)) = &self.names else {
            return Ok(());
        };
        File::open(partial)?.sync_all()?;
        fs::rename(partial, whole)
    }
}

fn schema() -> String {
    let fields = COLUMNS.iter().map(|column| {
        let kind = match column.kind {
            Kind::Int => format!("int64 {}", column.name),
            Kind::Text => format!("binary {} (string)", column.name),
            Kind::Bool => format!("boolean {}", column.name),
            Kind::Time => format!("int64 {} (timestamp(millis, true))", column.name),
            Kind::Usd => format!(
                "fixed_len_byte_array({DECIMAL_BYTES}) {} (decimal(20, 9))",
                column.name
            ),
        };
        let repetition = if column.is_nullable {
            "optional"
        } else {
            "required"
        };
        format!("  {repetition} {kind};\n")
    });
    format!("message charge {{\n{}}}", fields.collect::<String>())
}

fn fill(
    cells: &mut SerializedColumnWriter<'_>,
    column: &Column,
    rows: &[NumberedCharge],
) -> Result<(), ParquetError> {
    use parquet::data_type::{BoolType, ByteArrayType, FixedLenByteArrayType, Int64Type};

    let values = rows.iter().map(|row| column.of(row));
    // 1 where there is a value: only a column that may be null tells it.
    let levels: Option<Vec<i16>> = column.is_nullable.then(|| {
        let is_there = |value| i16::from(value != Value::Null);
        rows.iter().map(|row| is_there(column.of(row))).collect()
    });
    let levels = levels.as_deref();
    match column.kind {
        Kind::Int | Kind::Time => {
            let numbers: Vec<i64> = values
                .filter_map(|value| match value {
                    Value::Int(number) | Value::Time(number) => Some(number),
                    _ => None,
                })
                .collect();
            cells
                .typed::<Int64Type>()
                .write_batch(&numbers, levels, None)
        }
        Kind::Text => {
            let texts: Vec<ByteArray> = values
                .filter_map(|value| match value {
                    Value::Text(text) => Some(ByteArray::from(text.as_bytes().to_vec())),
                    _ => None,
                })
                .collect();
            cells
                .typed::<ByteArrayType>()
                .write_batch(&texts, levels, None)
        }
        Kind::Bool => {
            let flags: Vec<bool> = values.map(|value| value == Value::Bool(true)).collect();
            cells.typed::<BoolType>().write_batch(&flags, levels, None)
        }
        Kind::Usd => {
            let decimals: Vec<FixedLenByteArray> = values
                .filter_map(|value| match value {
                    Value::Usd(nano) => Some(decimal(nano)),
                    _ => None,
                })
                .collect();
            cells
                .typed::<FixedLenByteArrayType>()
                .write_batch(&decimals, levels, None)
        }
    }
    .map(drop)
}

/// The nano-USD as they are, in two's complement, the highest byte first: nine decimals are said by the schema.
fn decimal(nano: i64) -> FixedLenByteArray {
    let wide = i128::from(nano).to_be_bytes();
    let narrow = wide
        .last_chunk::<DECIMAL_BYTES>()
        .map(|bytes| bytes.to_vec());
    FixedLenByteArray::from(narrow.unwrap_or_default())
}

fn plain(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        error => io::Error::other(error),
    }
}
