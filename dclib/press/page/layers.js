// The networks themselves: a chain of layers out = W in + b, with weights of 16 bits (dclib/explore/page_network.py).
"use strict";
window.dclibNetwork = window.dclibNetwork || {};
(() => {
  const MEAN = [0.485, 0.456, 0.406], STD = [0.229, 0.224, 0.225];
  const packed = {}; // name: base64 of its layers, as scripts hand it over

  // layers by name, from the base64 of a file and the list of what is in it
  function unpack(text, shapes) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const layers = {};
    let at = 0;
    for (const [name, shape] of Object.entries(shapes)) {
      const outputs = shape[0], inputs = shape.slice(1).reduce((a, b) => a * b, 1);
      const scale = new Float32Array(bytes.buffer, at, outputs);
      const bias = Float64Array.from(new Float32Array(bytes.buffer, at + 4 * outputs, outputs));
      const whole = new Int16Array(bytes.buffer, at + 8 * outputs, outputs * inputs);
      const weights = Float64Array.from(whole, (value, i) => value * scale[Math.floor(i / inputs)]);
      layers[name] = { outputs, inputs, bias, weights };
      at += 4 * Math.ceil((8 * outputs + 2 * outputs * inputs) / 4);
    }
    return layers;
  }

  // W times each of the columns, plus b; columns one after the other, outputs as planes
  function multiply({ outputs, inputs, bias, weights }, columns, places, lit) {
    const out = new Float64Array(outputs * places);
    for (let place = 0; place < places; place++) {
      const start = place * inputs;
      for (let o = 0; o < outputs; o += 4) {
        const rows = Math.min(4, outputs - o);
        const a = o * inputs, b = rows > 1 ? a + inputs : a, c = rows > 2 ? b + inputs : a, d = rows > 3 ? c + inputs : a;
        let p = 0, q = 0, r = 0, s = 0;
        for (let i = 0; i < inputs; i++) {
          const value = columns[start + i];
          p += weights[a + i] * value;
          q += weights[b + i] * value;
          r += weights[c + i] * value;
          s += weights[d + i] * value;
        }
        const at = o * places + place;
        out[at] = p + bias[o];
        if (rows > 1) out[at + places] = q + bias[o + 1];
        if (rows > 2) out[at + 2 * places] = r + bias[o + 2];
        if (rows > 3) out[at + 3 * places] = s + bias[o + 3];
      }
    }
    if (lit) for (let i = 0; i < out.length; i++) if (out[i] < 0) out[i] = 0;
    return out;
  }

  const apply = (layer, vector, lit = false) => multiply(layer, vector, 1, lit);

  // the 3 x 3 surroundings of every place, with zeros beyond the edge: a column for each
  function surroundings(maps, channels, side) {
    const wide = side + 2, inputs = channels * 9;
    const framed = new Float64Array(channels * wide * wide), columns = new Float64Array(side * side * inputs);
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < side; y++) {
        const row = maps.subarray((c * side + y) * side, (c * side + y + 1) * side);
        framed.set(row, (c * wide + y + 1) * wide + 1);
      }
    }
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          let from = (c * wide + y) * wide + x, to = (y * side + x) * inputs + c * 9;
          for (let v = 0; v < 3; v++, from += wide) {
            columns[to++] = framed[from];
            columns[to++] = framed[from + 1];
            columns[to++] = framed[from + 2];
          }
        }
      }
    }
    return columns;
  }

  function pool(maps, channels, side) {
    const half = side >> 1;
    const out = new Float64Array(channels * half * half);
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < half; y++) {
        for (let x = 0; x < half; x++) {
          const at = (c * side + 2 * y) * side + 2 * x;
          out[(c * half + y) * half + x] = Math.max(maps[at], maps[at + 1], maps[at + side], maps[at + side + 1]);
        }
      }
    }
    return out;
  }

  // both derivatives of the grey picture, behind a frame of the mean colour: (2, side, side)
  function sobel(pixels, size, padding) {
    const wide = size + 2 * padding, side = wide - 2;
    const grey = new Float64Array(wide * wide);
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        let sum = 0;
        for (let c = 0; c < 3; c++) sum += (pixels[(c * size + y) * size + x] / 255 - MEAN[c]) / STD[c];
        grey[(y + padding) * wide + x + padding] = sum / 3;
      }
    }
    const maps = new Float64Array(2 * side * side);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const g = (v, u) => grey[(y + v) * wide + x + u];
        maps[y * side + x] = g(0, 0) - g(0, 2) + 2 * (g(1, 0) - g(1, 2)) + g(2, 0) - g(2, 2);
        maps[(side + y) * side + x] = g(0, 0) - g(2, 0) + 2 * (g(0, 1) - g(2, 1)) + g(0, 2) - g(2, 2);
      }
    }
    return { maps, side };
  }

  // a quarter turn counter-clockwise, `turns` times
  function turned(pixels, size, turns) {
    let out = pixels;
    for (let turn = 0; turn < turns; turn++) {
      const before = out;
      out = new Uint8Array(before.length);
      for (let c = 0; c < 3; c++) {
        for (let y = 0; y < size; y++) {
          for (let x = 0; x < size; x++) out[(c * size + y) * size + x] = before[(c * size + x) * size + size - 1 - y];
        }
      }
    }
    return out;
  }

  // probabilities of the four turns: of super-classes s, those with the same s modulo four are one
  function belief(logits) {
    const most = Math.max(...logits);
    const weights = Array.from(logits, (value) => Math.exp(value - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    return [0, 1, 2, 3].map((turn) => weights.reduce((a, w, s) => (s % 4 === turn ? a + w / sum : a), 0));
  }

  class Network {
    constructor(text, about) {
      this.about = about;
      this.layers = unpack(text, about.layers);
    }

    // all that a picture (3, size, size) of bytes makes in the network
    see(pixels) {
      const stem = sobel(pixels, this.about.image_size, this.about.padding);
      let { maps, side } = stem, channels = 2;
      const seen = [];
      for (let i = 0; this.layers[`conv${i + 1}`]; i++) {
        const layer = this.layers[`conv${i + 1}`];
        maps = multiply(layer, surroundings(maps, channels, side), side * side, true);
        channels = layer.outputs;
        seen.push({ maps, channels, side });
        if (this.about.pooled.includes(i)) {
          maps = pool(maps, channels, side);
          side >>= 1;
        }
      }
      const features = apply(this.layers.features, apply(this.layers.hidden, maps, true));
      const turns = belief(apply(this.layers.turns, features.map((value) => Math.max(0, value))));
      return { sobel: stem, maps: seen, features, turns };
    }

    // where features lie among the clusters and the pictures that came along
    place(features) {
      const point = apply(this.layers.points, features);
      const length = Math.hypot(...point) || 1;
      const unit = point.map((value) => value / length);
      const order = (values) => Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
      const near = apply(this.layers.pool, unit);
      return { clusters: order(apply(this.layers.clusters, unit)), near: order(near), cosines: near };
    }
  }

  Object.assign(window.dclibNetwork, {
    turned,
    take: (name, text) => (packed[name] = text),
    network: (name, about) => new Network(packed[name], about.networks[name]),
  });
})();
