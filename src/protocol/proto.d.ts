declare module "*.proto" {
  /** The path of the embedded file, in the source tree or inside the compiled binary. */
  const path: string;
  export default path;
}
