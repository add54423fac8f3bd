// A small Markdown renderer: headings, paragraphs, lists, code and inline marks.

const BLOCK_SEPARATOR = /\n{2,}/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const LIST_ITEM = /^\s*[-*+]\s+(.*)$/;
const ORDERED_ITEM = /^\s*\d+[.)]\s+(.*)$/;
const FENCE = /^```(\w*)\s*$/;

/**
 * Escapes the characters that have a meaning in markup.
 * @param {string} text
 */
function escapeMarkup(text) {
  const replacements = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => replacements[character]);
}

/**
 * Renders what may stand within a line: code, strong, emphasis and links.
 * @param {string} text
 */
export function renderInline(text) {
  const codeSpans = [];
  const withoutCode = text.replace(/`([^`]+)`/g, (_match, code) => {
    codeSpans.push(`<code>${escapeMarkup(code)}</code>`);
    return `\u0000${codeSpans.length - 1}\u0000`;
  });
  const escaped = escapeMarkup(withoutCode);
  const marked = escaped
    .replace(/\*\*([^*]+)\*\*/g, '<strong>$1</strong>')
    .replace(/\*([^*]+)\*/g, '<em>$1</em>')
    .replace(/\[([^\]]+)\]\(([^)\s]+)\)/g, (_match, label, target) => {
      // Only schemes that cannot run anything.
      const isSafe = /^(https?:|mailto:|\/|#)/.test(target);
      return isSafe ? `<a href="${target}">${label}</a>` : label;
    });
  return marked.replace(/\u0000(\d+)\u0000/g, (_match, position) => codeSpans[Number(position)]);
}

class LineReader {
  constructor(source) {
    this.lines = source.replace(/\r\n?/g, '\n').split('\n');
    this.position = 0;
  }

  get isAtEnd() {
    return this.position >= this.lines.length;
  }

  peek() {
    return this.lines[this.position];
  }

  next() {
    const line = this.lines[this.position];
    this.position += 1;
    return line;
  }

  takeWhile(predicate) {
    const taken = [];
    while (!this.isAtEnd && predicate(this.peek())) {
      taken.push(this.next());
    }
    return taken;
  }
}

function renderList(reader, pattern, tagName) {
  const lines = reader.takeWhile((line) => pattern.test(line));
  const items = lines.map((line) => {
    const [, content] = pattern.exec(line);
    return `<li>${renderInline(content)}</li>`;
  });
  return `<${tagName}>${items.join('')}</${tagName}>`;
}

function renderFence(reader, language) {
  reader.next();
  const body = reader.takeWhile((line) => !FENCE.test(line));
  if (!reader.isAtEnd) {
    reader.next();
  }
  const attribute = language ? ` class="language-${escapeMarkup(language)}"` : '';
  return `<pre><code${attribute}>${escapeMarkup(body.join('\n'))}</code></pre>`;
}

function renderBlock(reader) {
  const line = reader.peek();
  const fence = FENCE.exec(line);
  if (fence !== null) {
    return renderFence(reader, fence[1]);
  }
  const heading = HEADING.exec(line);
  if (heading !== null) {
    reader.next();
    const level = heading[1].length;
    return `<h${level}>${renderInline(heading[2])}</h${level}>`;
  }
  if (LIST_ITEM.test(line)) {
    return renderList(reader, LIST_ITEM, 'ul');
  }
  if (ORDERED_ITEM.test(line)) {
    return renderList(reader, ORDERED_ITEM, 'ol');
  }
  const paragraph = reader.takeWhile(
    (candidate) => candidate.trim() !== '' && !HEADING.test(candidate) && !FENCE.test(candidate),
  );
  return `<p>${renderInline(paragraph.join(' '))}</p>`;
}

/**
 * Renders a whole document.
 * @param {string} source
 * @returns {string} markup
 */
export default function renderMarkdown(source) {
  const reader = new LineReader(source);
  const rendered = [];
  while (!reader.isAtEnd) {
    if (reader.peek().trim() === '') {
      reader.next();
      continue;
    }
    rendered.push(renderBlock(reader));
  }
  return rendered.join('\n');
}

/** Counts what a reader would want to know about a document. */
export async function statistics(source, { wordsPerMinute = 200 } = {}) {
  const blocks = source.split(BLOCK_SEPARATOR).filter((block) => block.trim().length > 0);
  const words = source.split(/\s+/).filter(Boolean);
  const minutes = Math.max(1, Math.ceil(words.length / wordsPerMinute));
  return {
    blocks: blocks.length,
    words: words.length,
    characters: source.length,
    readingTime: `${minutes} min`,
  };
}
