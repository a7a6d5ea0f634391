/** The scripts by which shells ask `llmnode __complete` what a word can become. */

// What is asked: `llmnode __complete -- <words> <the word that is typed>`. What is answered: lines of
// `value<TAB>description`, then `:4`, or `:0` where names of files fit as well (cobra's protocol).

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

// Bash splits words at `:` and `=` as well (COMP_WORDBREAKS) and replaces what follows the last of
// them only: the line is split by blanks here, and what stays is taken off the answers.
const BASH = `# bash completion for llmnode:  source <(llmnode completion bash)
__llmnode_complete() {
  local line=\${COMP_LINE:0:COMP_POINT} words cur answer directive value keep
  COMPREPLY=()
  read -ra words <<<"$line"
  [[ $line == *[[:blank:]] ]] && words+=("")
  cur=\${words[\${#words[@]}-1]}
  answer=$("\${words[0]}" __complete -- "\${words[@]:1}" 2>/dev/null) || return 0
  directive=\${answer##*$'\\n'}
  keep=
  [[ $cur == *[:=]* ]] && keep=\${cur%"\${cur##*[:=]}"}
  while IFS=$'\\t' read -r value _; do
    [[ $value == :* || -z $value ]] || COMPREPLY+=("\${value#"$keep"}")
  done <<<"$answer"
  [[ $directive != :0 ]] || compopt -o default 2>/dev/null
  return 0
}
complete -F __llmnode_complete llmnode
`;

const ZSH = `#compdef llmnode
# zsh completion for llmnode:  source <(llmnode completion zsh)
__llmnode_complete() {
  local answer line directive value note
  local -a described
  answer=$("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null) || return 1
  for line in "\${(@f)answer}"; do
    if [[ $line == :* ]]; then
      directive=$line
      continue
    fi
    value=\${line%%$'\\t'*}
    note=\${line#*$'\\t'}
    [[ -n $value ]] || continue
    described+=("\${value//:/\\\\:}\${note:+:$note}")
  done
  if [[ $directive == :0 ]]; then
    _files
  elif (( \${#described} )); then
    _describe -V 'llmnode' described
  fi
}
if [[ \${funcstack[1]} == _llmnode ]]; then
  __llmnode_complete "$@"
else
  compdef __llmnode_complete llmnode
fi
`;

const FISH = `# fish completion for llmnode:  llmnode completion fish | source
function __llmnode_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l answer ($words[1] __complete -- $words[2..-1] 2>/dev/null)
    or return
    if test "$answer[-1]" = :0
        __fish_complete_path (commandline -ct)
        return
    end
    string match -v -r '^:' -- $answer
end
complete -c llmnode -f -k -a '(__llmnode_complete)'
`;

export function completionScript(shell: Shell): string {
  return { bash: BASH, zsh: ZSH, fish: FISH }[shell];
}
