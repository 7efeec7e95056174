// A picture as the networks see it: small, square, RGB, one plane after the other, each value a byte.
//
// The steps are those of the library (dclib/data/transforms.py) and of Pillow, by which it resizes: a JPEG is read at a
// whole fraction of its size, then comes a bilinear filter as wide as the reduction, first across, then down, with whole
// numbers in between. So a file without loss gives the same bytes here and there.
"use strict";
window.dclibNetwork = window.dclibNetwork || {};
(() => {
  const LARGEST = 64e6; // pixels: decoded, they take a quarter of a gigabyte
  const HEAD = 2 ** 20; // bytes of a file in which its kind and, of a JPEG, its frame are looked for
  const BAND = 64; // rows that are looked at together
  const BITS = 22; // of the filter's weights behind the point

  class Refusal extends Error {}

  const starts = (bytes, ...values) => values.every((value, i) => bytes[i] === value);
  const letters = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

  function kindOf(bytes) {
    if (starts(bytes, 0xff, 0xd8, 0xff)) return "JPEG";
    if (starts(bytes, 0x89, 0x50, 0x4e, 0x47)) return "PNG";
    if (letters(bytes, 0, 3) === "GIF") return "GIF";
    if (letters(bytes, 0, 4) === "RIFF" && letters(bytes, 8, 12) === "WEBP") return "WebP";
    if (letters(bytes, 0, 2) === "BM") return "BMP";
    if (letters(bytes, 4, 8) === "ftyp") return letters(bytes, 8, 11) === "avi" ? "AVIF" : "HEIF";
    if (starts(bytes, 0x49, 0x49, 0x2a, 0) || starts(bytes, 0x4d, 0x4d, 0, 0x2a)) return "TIFF";
    const text = letters(bytes, 0, 1000);
    if (/^[^\w]*<(\?xml|!--|!doctype svg|svg)/i.test(text) && /<svg/i.test(letters(bytes, 0, 4000))) return "SVG";
    return "";
  }

  // how many components the frame of a JPEG has: 4 are inks
  function componentsOf(bytes) {
    for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; ) {
      const marker = bytes[at + 1];
      if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return bytes[at + 9];
      at += marker === 0xff ? 1 : 2 + bytes[at + 2] * 256 + bytes[at + 3];
    }
    return 3;
  }

  // width and height by the head of a file: it is not decoded for that
  async function sizeOf(blob, kind) {
    const address = URL.createObjectURL(blob);
    try {
      const image = new Image();
      await new Promise((done, failed) => {
        image.onload = done;
        image.onerror = failed;
        image.src = address;
      });
      return [image.naturalWidth, image.naturalHeight];
    } catch {
      throw new Refusal(`This browser cannot read that ${kind} file: it is damaged, or of a kind that it does not know. Save it as JPEG or PNG and try again.`);
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  async function open(blob) {
    if (!blob.size) throw new Refusal("That file is empty. Take one that holds a picture.");
    let head;
    try {
      head = new Uint8Array(await blob.slice(0, HEAD).arrayBuffer());
    } catch {
      throw new Refusal("That cannot be read: it is a folder, or a file that has gone. Take one picture.");
    }
    const kind = kindOf(head);
    if (kind === "SVG") {
      throw new Refusal("That is an SVG: lines to be drawn, with no pixels of its own. Save it as PNG and try again.");
    }
    if (!kind) {
      throw new Refusal("That file is no picture: it begins like none of JPEG, PNG, WebP, AVIF, GIF and BMP. Take one of these.");
    }
    const [width, height] = await sizeOf(blob, kind);
    if (width * height > LARGEST) {
      const millions = Math.round((width * height) / 1e6);
      throw new Refusal(`That picture has ${millions} million pixels (${width} × ${height}), and at most ${LARGEST / 1e6} million are read here. Make it smaller and try again.`);
    }
    const inks = kind === "JPEG" && componentsOf(head) === 4;
    const note = inks ? "That JPEG is made of four inks (CMYK), for print: your browser has turned them into colours, which the library may do a little differently." : "";
    try {
      return { kind, note, bitmap: await createImageBitmap(blob, { colorSpaceConversion: "none" }) };
    } catch {
      throw new Refusal(`This browser cannot read that ${kind} file to its end: it is damaged. Save it anew and try again.`);
    }
  }

  const halfToEven = (value) => (Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

  // for each output from `first` on: where its inputs begin, and their weights as whole numbers
  function filter(inputs, outputs, first, count) {
    const scale = inputs / outputs, wide = Math.max(scale, 1);
    return Array.from({ length: count }, (_, i) => {
      const centre = (first + i + 0.5) * scale;
      const from = Math.max(0, Math.trunc(centre - wide + 0.5));
      const to = Math.min(inputs, Math.trunc(centre + wide + 0.5));
      const weights = Array.from({ length: to - from }, (_, j) => Math.max(0, 1 - Math.abs((j + from - centre + 0.5) / wide)));
      const sum = weights.reduce((a, b) => a + b, 0);
      return { from, weights: weights.map((weight) => Math.floor((weight / sum) * 2 ** BITS + 0.5)) };
    });
  }

  const toByte = (sum) => Math.min(255, Math.max(0, Math.floor((sum + 2 ** (BITS - 1)) / 2 ** BITS)));

  // mean of squares of `by` pixels: what a JPEG's decoder does at a fraction of its size
  function reduce(data, width, rows, by) {
    const across = Math.ceil(width / by), down = Math.ceil(rows / by);
    const out = new Uint8ClampedArray(across * down * 4);
    for (let y = 0; y < down; y++) {
      for (let x = 0; x < across; x++) {
        const right = Math.min(width, (x + 1) * by), bottom = Math.min(rows, (y + 1) * by);
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (let v = y * by; v < bottom; v++) for (let u = x * by; u < right; u++) sum += data[(v * width + u) * 4 + c];
          out[(y * across + x) * 4 + c] = Math.floor(sum / ((bottom - y * by) * (right - x * by)) + 0.5);
        }
      }
    }
    return out;
  }

  // short side to `resize`, the middle `size` x `size` of it; (3, size, size)
  function shrink(bitmap, resize, size, isJpeg) {
    const fits = Math.floor(Math.min(bitmap.width, bitmap.height) / resize);
    const by = isJpeg ? [8, 4, 2, 1].find((n) => fits >= n) || 1 : 1;
    const width = Math.ceil(bitmap.width / by), height = Math.ceil(bitmap.height / by);
    const longer = Math.trunc((resize * Math.max(width, height)) / Math.min(width, height));
    const [w, h] = width <= height ? [resize, longer] : [longer, resize];
    const inner = halfToEven((resize - size) / 2);
    const columns = filter(width, w, halfToEven((w - resize) / 2) + inner, size);
    const lines = filter(height, h, halfToEven((h - resize) / 2) + inner, size);
    const middle = new Uint8Array(3 * height * size);
    const canvas = document.createElement("canvas");
    canvas.width = bitmap.width;
    canvas.height = Math.min(bitmap.height, BAND * by);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let top = 0; top < height; top += BAND) {
      const rows = Math.min(BAND * by, bitmap.height - top * by);
      context.fillStyle = "#fff"; // what is transparent lies on white
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, 0, -top * by);
      let data = context.getImageData(0, 0, bitmap.width, rows).data;
      if (by > 1) data = reduce(data, bitmap.width, rows, by);
      for (let y = 0; y < Math.ceil(rows / by); y++) {
        columns.forEach(({ from, weights }, x) => {
          for (let c = 0; c < 3; c++) {
            let sum = 0;
            for (let j = 0; j < weights.length; j++) sum += weights[j] * data[(y * width + from + j) * 4 + c];
            middle[(c * height + top + y) * size + x] = toByte(sum);
          }
        });
      }
    }
    const pixels = new Uint8Array(3 * size * size);
    for (let c = 0; c < 3; c++) {
      lines.forEach(({ from, weights }, y) => {
        for (let x = 0; x < size; x++) {
          let sum = 0;
          for (let j = 0; j < weights.length; j++) sum += weights[j] * middle[(c * height + from + j) * size + x];
          pixels[(c * size + y) * size + x] = toByte(sum);
        }
      });
    }
    return pixels;
  }

  // a file, or another blob, as the networks see it; throws a Refusal whose message is for the reader
  async function readPicture(blob, resize, size) {
    const { kind, note, bitmap } = await open(blob);
    try {
      return { pixels: shrink(bitmap, resize, size, kind === "JPEG"), note };
    } catch {
      throw new Refusal(`A picture of ${bitmap.width} × ${bitmap.height} is more than this browser can take apart. Make it smaller and try again.`);
    } finally {
      bitmap.close();
    }
  }

  Object.assign(window.dclibNetwork, { Refusal, readPicture, shrink });
})();
